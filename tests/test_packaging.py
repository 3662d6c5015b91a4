"""A built wheel holds everything: presets, the kernel's sources, entry points; and works away from the source tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import importlib.metadata, importlib.resources, json, sys
import lg_field
from lg_field.ops.backends.cpu.build import HEADER, SOURCE
presets = importlib.resources.files("lg_field.configs")
print(json.dumps({
    "file": lg_field.__file__,
    "presets": sorted(p.name for p in presets.iterdir() if p.name.endswith(".yaml")),
    "readable": all(p.read_text() for p in presets.iterdir() if p.name.endswith(".yaml")),
    "kernel": [SOURCE.is_file(), HEADER.is_file()],
    "typed": importlib.resources.files("lg_field").joinpath("py.typed").is_file(),
    "entries": sorted(f"{e.group}:{e.name}" for e in importlib.metadata.distribution("lg-field").entry_points),
    "modules": [e.value.split(":")[0] for e in importlib.metadata.distribution("lg-field").entry_points],
}))
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, timeout=200)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder with the installed wheel, built from a copy of the tree."""
    tree, wheels, target = (tmp_path_factory.mktemp(name) for name in ("tree", "wheels", "target"))
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("lg_field", "configs"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", wheels, tree, cwd=tree)
    (wheel,) = wheels.glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=tree)
    return target


def test_an_installed_wheel_has_presets_kernel_and_entry_points(installed: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{PROGRAM}"
    found = json.loads(run(sys.executable, "-P", "-c", code, cwd=tmp_path))
    assert Path(found["file"]).is_relative_to(installed)
    assert found["presets"] == sorted(p.name for p in (ROOT / "configs").glob("*.yaml")) and found["readable"]
    assert found["kernel"] == [True, True] and found["typed"]
    scripts = {"console_scripts:lg-field", "console_scripts:crop-scene", "console_scripts:extend-scene"}
    assert scripts | {"nerfstudio.method_configs:lg-field"} <= set(found["entries"])
    for module in found["modules"]:
        assert (installed / module.replace(".", "/")).with_suffix(".py").is_file() or (
            installed / module.replace(".", "/") / "__init__.py"
        ).is_file()


def test_every_module_of_the_tree_is_in_the_wheel(installed: Path) -> None:
    kinds = (".py", ".cpp", ".h", ".js", ".wgsl", ".html", ".css")
    ours = {p.relative_to(ROOT) for p in (ROOT / "lg_field").rglob("*") if p.suffix in kinds}
    assert {p for p in ours if not (installed / p).is_file()} == set()
    assert not (installed / "tests").exists() and not (installed / "configs").exists()
