"""The directive `lg-examples`: every file of examples/, its docstring as text, its code, the pictures it made."""

from __future__ import annotations

import ast
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


def example_files() -> list[Path]:
    """The examples, in the order of their numbers."""
    return sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))


def taken_apart(path: Path) -> tuple[str, list[str], str]:
    """Title, paragraphs and code of an example: its docstring begins with the title."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    title, *rest = (ast.get_docstring(tree) or path.stem).split("\n\n")
    code = "".join(source.splitlines(keepends=True)[tree.body[0].end_lineno :])
    return title.rstrip("."), rest, code.strip()


class Examples(SphinxDirective):
    """A section for each example."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        sections: list[nodes.Node] = []
        for path in example_files():
            self.env.note_dependency(str(path))
            title, paragraphs, code = taken_apart(path)
            section = nodes.section(ids=[nodes.make_id(path.stem)], names=[path.stem])
            section += nodes.title("", title)
            section += nodes.paragraph("", "", nodes.literal("", f"examples/{path.name}"))
            for text in paragraphs:
                section += nodes.paragraph("", " ".join(text.split()))
            section += nodes.literal_block(code, code, language="python")
            picture = ROOT / "docs" / "pictures" / f"{path.stem}.png"
            if picture.exists():
                section += nodes.image(uri=f"pictures/{picture.name}", alt=title)
            self.state.document.note_explicit_target(section, section)
            sections.append(section)
        return sections


def setup(app: object) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("lg-examples", Examples)  # type: ignore[attr-defined]
    return {"parallel_read_safe": True}
