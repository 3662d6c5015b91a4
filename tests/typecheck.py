"""The checker that the tests' import hook puts on the functions of lg_field."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_check: Any = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check arguments and results; constructors check what they are given themselves, with messages of their own."""
    return function if function.__name__ == "__init__" else _check(function)
