"""Laws over the source tree: small functions and files, documented names, facts instead of references, enough tests."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from lg_field.ops import sort_by_row

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


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{line}"


def long_functions(path: Path) -> Iterator[str]:
    """Functions over `LONGEST_FUNCTION` lines, signature and docstring included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Function) and (lines := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
            yield f"{place(path, node.lineno)} {node.name}: {lines} lines"


def undocumented(path: Path) -> Iterator[str]:
    """The module and its public classes, functions and methods that have no docstring."""

    def inside(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.ClassDef, *Function.__args__)) and not node.name.startswith("_"):
                overloaded = any("overload" in ast.dump(d) for d in node.decorator_list)
                if ast.get_docstring(node) is None and not overloaded:
                    yield f"{place(path, node.lineno)} {node.name}"
                if isinstance(node, ast.ClassDef):
                    yield from inside(node.body)

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
    """Comparisons of a `kind` with something: the room that knows the kind should decide."""
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Compare):
            continue
        names = {getattr(side, "id", getattr(side, "attr", None)) for side in (node.left, *node.comparators)}
        if "kind" in names and any(isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for op in node.ops):
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
    def method(self): return "x" if self.kind == "y" else 0
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
