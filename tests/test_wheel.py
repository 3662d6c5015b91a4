"""The built packages work where they are installed, and the core works without any extra."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import numpy as np
import pytest
from small_scene import small_scene

import lg_field
from lg_field.errors import EXTRAS, doing, report

ROOT = Path(__file__).parents[1]
SMALL = ("--steps", "2", "--parameters", "2000", "--counts", "2", "2", "2")
WITHOUT_EXTRAS = """
import sys
sys.modules |= dict.fromkeys(sys.argv[1].split())
from lg_field.cli import main
for words in sys.argv[2:]:
    sys.argv = ["lg-field", *words.split()]
    main()
"""


def run(*command: object, cwd: Path, alone: bool = False) -> str:
    """Run a program; `alone`: without what PYTHONPATH adds."""
    env = {name: value for name, value in os.environ.items() if not alone or name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, timeout=250, env=env)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    tree, out = (tmp_path_factory.mktemp(name) for name in ("tree", "out"))
    for folder in ("lg_field", "configs"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree, cwd=tree)
    return out


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel; other packages are those of this one."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    interpreter = place / "bin" / "python"
    (site,) = place.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", interpreter)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=place)
    return interpreter


def test_the_sdist_holds_what_the_wheel_is_made_of(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    ours = {p.relative_to(ROOT) for p in (ROOT / "lg_field").rglob("*") if p.suffix in (".py", ".cpp", ".h")}
    assert ours <= names and Path("README.md") in names and Path("configs/image-div2k.yaml") in names


def test_an_installed_wheel_encodes_crops_and_renders(python: Path, tmp_path: Path) -> None:
    command = python.parent / "lg-field"
    np.save(tmp_path / "a.npy", np.linspace(0, 1, 512, dtype=np.float32).reshape(8, 8, 8))
    place = run(python, "-P", "-c", "import lg_field; print(lg_field.__file__)", cwd=tmp_path, alone=True)
    assert Path(place.strip()).is_relative_to(python.parents[1])
    run(command, "encode", "a.npy", "-o", "a", *SMALL, cwd=tmp_path, alone=True)
    run(command, "crop", "a", "--box", 0, 0, 0, 4, 4, 8, "-o", "b", cwd=tmp_path, alone=True)
    assert lg_field.load(tmp_path / "b").num_rows == 2
    lg_field.save(small_scene(), tmp_path / "scene")
    run(command, "render", "scene", "--orbit", 1, "--width", 8, "--height", 8, "-o", "c.png", cwd=tmp_path, alone=True)
    assert (tmp_path / "c.png").is_file()


def test_the_core_encodes_crops_and_decodes_arrays_without_any_extra(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.linspace(0, 1, 512, dtype=np.float32).reshape(8, 8, 8))
    lines = (f"encode a.npy -o a {' '.join(SMALL)}", "crop a --box 0 0 0 4 8 8 -o b", "info b", "decode b -o b.npy")
    optional = " ".join([*EXTRAS, "fsspec", "nibabel", "nrrd", "pydicom", "OpenEXR", "pillow_heif"])
    run(sys.executable, "-c", WITHOUT_EXTRAS, optional, *lines, cwd=tmp_path)
    assert np.load(tmp_path / "b.npy").shape[:3] == (8, 8, 8)


@pytest.mark.parametrize("package", list(EXTRAS))
def test_a_missing_package_is_named_with_the_extra_that_installs_it(package: str) -> None:
    name, extra = EXTRAS[package]
    try:
        with doing("encoding a.png"):
            raise ModuleNotFoundError(f"No module named '{package}.sub'", name=f"{package}.sub")
    except ModuleNotFoundError as error:
        assert report(error) == f"encoding a.png needs {name}: pip install 'lg-field[{extra}]'"
    required = map(str, importlib.metadata.requires("lg-field") or [])
    installed = {re.split(r"[\[<>=~!; ]", word)[0].lower() for word in required if f'extra == "{extra}"' in word}
    known_as = {"pyav": "av", "opencv": "opencv-python-headless"}
    assert known_as.get(name.lower(), name.lower()) in installed


def test_other_missing_modules_say_what_they_say() -> None:
    assert report(ModuleNotFoundError("No module named 'x'", name="x")) == "No module named 'x'"
    assert report(ImportError("NRRD files need pynrrd")) == "NRRD files need pynrrd"
