"""The order of rooms: import-linter's contracts, and what a fresh process imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"nerfstudio", "open3d", "trimesh", "mcubes", "viser", "tyro", "triton"}
OPTIONAL = HEAVY | {
    *("PIL", "cv2", "soundfile", "av", "torchmetrics", "yaml", "tensorboard", "torchvision", "skimage", "scipy"),
    *("fsspec", "nibabel", "beartype", "hypothesis", "importlinter", "websockets"),
}
CORE = (
    "import lg_field, lg_field.ops, lg_field.networks, lg_field.radiance.field, lg_field.signals, lg_field.files, "
    "lg_field.meshing.mesh"
)


def contracts(root: Path) -> tuple[bool, str]:
    """Whether the tree under `root` keeps the contracts of its pyproject.toml, and what import-linter says."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(config_filename=sys.argv[1] + '/pyproject.toml', no_cache=True, no_logo=True))"
    )
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=100)
    return done.returncode == 0, done.stdout + done.stderr


def imported(statement: str, blocked: set[str] = frozenset()) -> set[str]:
    """Top-level modules in a fresh process after a statement; those `blocked` cannot be imported there."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(sys.argv[1:]); "
        f"{statement}; print(' '.join({{m.split('.')[0] for m, v in sys.modules.items() if v}}))"
    )
    command = [sys.executable, "-c", code, *blocked]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


def test_rooms_import_those_below_them_only() -> None:
    kept, text = contracts(ROOT)
    assert kept, text


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("ops/sorting.py", "from lg_field.space import partition", "ops takes tensors and offsets"),
        (
            "networks/budget.py",
            "def _late():\n    from lg_field.signals import signal",
            "rooms import those below them",
        ),
        ("viewer/picking.py", "def _late():\n    import nerfstudio", "only the adapters know nerfstudio"),
        ("ops/sizes.py", "import lg_field.ops.chain", "rooms import each other in one direction"),
    ],
)
def test_the_contracts_can_break(tmp_path: Path, module: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "lg_field", tmp_path / "lg_field", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "lg_field" / module).open("a") as file:
        file.write(f"\n{line}\n")
    kept, text = contracts(tmp_path)
    assert not kept and any(contract in row and "BROKEN" in row for row in text.splitlines()), text


def test_the_core_is_light() -> None:
    assert not imported(CORE) & HEAVY
    assert "trimesh" in imported("import lg_field, trimesh"), "this test could not fail"


def test_the_core_needs_no_optional_package() -> None:
    assert "lg_field" in imported(CORE, OPTIONAL)
    with pytest.raises(AssertionError, match="import of yaml halted"):
        imported("import yaml", OPTIONAL)
