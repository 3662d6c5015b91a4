"""Laws over the source tree: small functions and files, documented names, facts instead of references, enough tests."""

from __future__ import annotations

import ast
import functools
import io
import tokenize
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from lg_field.ops import sort_by_row
from lg_field.signals.kinds import KINDS

ROOT = Path(__file__).parents[1]
CODE = sorted((ROOT / "lg_field").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
KERNELS = sorted(path for ending in ("*.cpp", "*.h") for path in (ROOT / "lg_field").rglob(ending))
LONGEST_FUNCTION = 60
LONGEST_FILE = 400
LEAST_TESTS = 0.6
OUTSIDE = ("design law", "shared/reference", "(law 1", "(law 2", "(law 3", "(law 4", "(law 5", "(law 6", "(law 7")
"""Words that point to a text which the repository does not hold."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{line}"


def long_functions(path: Path) -> Iterator[str]:
    """Functions over `LONGEST_FUNCTION` lines, signature and docstring included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Function) and (lines := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
            yield f"{place(path, node.lineno)} {node.name}: {lines} lines"


@functools.cache
def classes() -> dict[str, ast.ClassDef]:
    """The classes of lg_field by name."""
    nodes = (node for path in CODE for node in ast.walk(tree_of(path)))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def inherits(owner: ast.ClassDef | None, method: str) -> bool:
    """Whether a class of lg_field above this one documents the method."""
    for base in [] if owner is None else owner.bases:
        above = classes().get(getattr(base, "id", getattr(base, "attr", "")))
        named = [node for node in above.body if getattr(node, "name", "") == method] if above else []
        if above and (any(map(ast.get_docstring, named)) or inherits(above, method)):
            return True
    return False


def undocumented(path: Path) -> Iterator[str]:
    """The module and its public classes, functions and methods that have no docstring, nor inherit one."""

    def inside(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[str]:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None and not inherits(owner, node.name):
                yield f"{place(path, node.lineno)} {node.name}"
            if isinstance(node, ast.ClassDef):
                yield from inside(node.body, node)

    tree = tree_of(path)
    if tree.body and ast.get_docstring(tree) is None:
        yield place(path, 1)
    yield from inside(tree.body)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment and string."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def references_outside(path: Path) -> Iterator[str]:
    """Comments and docstrings that name something which is not in the repository."""
    for line, text in prose(path):
        for words in OUTSIDE:
            if words in text.lower():
                yield f"{place(path, line)} {words!r}"


def kind_comparisons(path: Path) -> Iterator[str]:
    """Comparisons of a `kind` with the name of a kind of signal, which the kind itself should decide.

    A variable `kind` that is "video" may be the kind of a file to write; an attribute may not.
    """
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Compare):
            continue
        names = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} & KINDS.keys()
        variable = any(isinstance(n, ast.Name) and n.id == "kind" for n in ast.walk(node))
        attribute = any(isinstance(n, ast.Attribute) and n.attr == "kind" for n in ast.walk(node))
        if (attribute and names) or (variable and names - {"video"}):
            yield f"{place(path, node.lineno)} {ast.unparse(node)}"


def code_lines(paths: list[Path]) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for path in paths for line in path.read_text().splitlines())


def all_of(finder: Callable[[Path], Iterator[str]], paths: list[Path]) -> list[str]:
    return [found for path in paths for found in finder(path)]


def test_no_function_is_too_long() -> None:
    assert all_of(long_functions, [*CODE, *SCRIPTS, *TESTS]) == []


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in [*CODE, *SCRIPTS, *TESTS, *KERNELS]}
    assert [f"{place(path, n)}" for path, n in lengths.items() if n > LONGEST_FILE] == []


def test_every_public_name_is_documented() -> None:
    assert all_of(undocumented, CODE) == []


def test_no_text_points_outside_the_repository() -> None:
    assert all_of(references_outside, [*CODE, *SCRIPTS, *(t for t in TESTS if t != Path(__file__))]) == []


def test_only_kinds_know_kinds() -> None:
    inside = ROOT / "lg_field" / "signals" / "kinds"
    assert all_of(kind_comparisons, [path for path in CODE if inside not in path.parents]) == []


def test_tests_are_at_least_six_tenths_of_the_code() -> None:
    tests, code = code_lines(TESTS), code_lines(CODE)
    assert tests >= LEAST_TESTS * code, f"{tests} lines of tests, {code} of code: {tests / code:.2f}"


BAD = '''
def long(kind):
    """Says (design law 4)."""
    {body}
class Public:
    def method(self): return "x" if self.kind == "image" else 0
'''


@pytest.mark.parametrize(
    ("finder", "names"),
    [(long_functions, "long"), (undocumented, "Public"), (references_outside, "design law"), (kind_comparisons, "==")],
)
def test_these_laws_can_fail(tmp_path: Path, finder: Callable[[Path], Iterator[str]], names: str) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(BAD.replace("{body}", "pass\n    " * LONGEST_FUNCTION))
    assert any(names in found for found in finder(bad))


def test_shapes_and_types_are_checked_here() -> None:
    with pytest.raises(TypeCheckError):
        sort_by_row(torch.zeros(2, 2, dtype=torch.int64), 4)
    with pytest.raises(TypeCheckError):
        sort_by_row(torch.zeros(2), 4)


def test_warnings_of_our_own_are_errors_and_those_of_others_are_not() -> None:
    def warn(module: str) -> None:
        warnings.warn_explicit("careful", UserWarning, "file.py", 1, module=module, registry={})

    for ours in ("lg_field.signals.metrics", "test_style", "commands"):
        with pytest.raises(UserWarning, match="careful"):
            warn(ours)
    warn("torch.nn")
