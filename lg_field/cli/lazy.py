"""Functions named as module:function: imported when they are run, described from their source before."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path


def function_at(place: str) -> Callable[..., None]:
    """The function at `module:function`; its module is imported."""
    module, name = place.split(":")
    function: Callable[..., None] = getattr(importlib.import_module(module), name)
    return function


def docstring_at(place: str) -> str:
    """The docstring of the function at `module:function`, "" if it has none; only the packages above are imported."""
    module, name = place.split(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no module {module}")
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    return next((ast.get_docstring(n) or "" for n in body if isinstance(n, ast.FunctionDef) and n.name == name), "")


def only_described(place: str) -> Callable[[], None]:
    """A function that takes nothing and says of itself what the one at `module:function` says."""

    def described() -> None:
        function_at(place)()

    described.__doc__ = docstring_at(place)
    return described
