"""Laws over the documentation: it builds without a warning, leads nowhere else, and names what there is."""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from small_scene import small_scene

import lg_field

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)])
LONGEST_README = 150
OURS = ("lg-field", "crop-scene", "extend-scene")


def tool(name: str) -> ModuleType:
    """One of Sphinx's extensions of docs/_ext."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "_ext" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def help_texts() -> dict[str, str]:
    """Command -> its help."""
    found: dict[str, str] = tool("commands").all_help()
    return found


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def links(page: Path) -> list[str]:
    """What a page links to or shows, of files."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    found = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def broken_links(page: Path, folder: Path) -> list[str]:
    """Links that lead to no file."""
    return [link for link in links(page) if not (folder / link.split("#")[0]).exists()]


def command_lines(text: str) -> list[list[str]]:
    """The words of every line that runs a command of ours, without comments."""
    lines = [re.split(r"\s+#|\s->|^#", line)[0] for line in text.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(OURS)]


def unknown_words(words: list[str]) -> list[str]:
    """The command if there is none of this name, and flags that its help does not name."""
    name = " ".join(words[:2]) if words[0] == "lg-field" else words[0]
    if name not in help_texts():
        return [] if words[1].startswith("--") else [name]
    flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", help_texts()[name])]


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-d", str(tmp_path / "d")]
    done = subprocess.run([*command, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    for page in DOCS.rglob("*.md"):
        assert (tmp_path / "html" / page.relative_to(DOCS)).with_suffix(".html").is_file()
    text = (tmp_path / "html" / "commands.html").read_text()
    assert all(f">{name}<" in text for name in help_texts())
    assert "num_parameters" in (tmp_path / "html" / "python.html").read_text()


def test_the_readme_is_short_and_shows_a_large_picture() -> None:
    from PIL import Image

    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= LONGEST_README
    with Image.open(ROOT / links(readme)[0]) as picture:
        assert picture.width >= 1200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    assert broken_links(page, page.parent) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_flags_are_those_there_are(page: Path) -> None:
    lines = [words for block in blocks(page, "bash") for words in command_lines(block)]
    assert [(" ".join(words), unknown) for words in lines if (unknown := unknown_words(words))] == []


def test_these_laws_can_fail(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[a](nowhere.md) [b](page.md#x) [c](https://x.org) `[d](no.md)`\n```bash\nlg-field crop a --bax 1\n```"
    )
    assert broken_links(page, tmp_path) == ["nowhere.md"]
    (words,) = command_lines(blocks(page, "bash")[0])
    assert unknown_words(words) == ["--bax"]
    assert unknown_words(["lg-field", "cropp", "a"]) == ["lg-field cropp"]
    assert unknown_words(["lg-field", "crop", "a", "-o", "b", "--dry-run"]) == []
    assert command_lines("# lg-field x\nlg-field a b   # c\nns-train --x") == [["lg-field", "a", "b"]]


@pytest.mark.parametrize("page", ["README.md", "docs/guides/share.md"])
def test_what_the_pages_do_in_python_works(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lg_field.save(small_scene(), tmp_path / "scene.safetensors")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks(ROOT / page, "python")[0], page, "exec"), names)
    assert names["small"].num_rows == names["part"].num_rows < names["field"].num_rows
    assert (tmp_path / "small.safetensors").is_file()


def test_the_drawings_are_what_their_script_draws() -> None:
    import drawings

    for name, draw in drawings.DRAWINGS.items():
        assert (DOCS / "drawings" / f"{name}.svg").read_text() == draw()
