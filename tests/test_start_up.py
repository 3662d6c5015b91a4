"""What a command line imports before it does anything: `lg-field --help` needs neither torch nor any command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro
from commands import lg
from small_scene import small_scene

import lg_field
import lg_field.networks
from lg_field import PartitionGrid
from lg_field.cli import COMMANDS, commands, needed
from lg_field.cli.info import facts_of
from lg_field.cli.kind_facts import ARRAY, FACTS, KindFacts
from lg_field.cli.lazy import docstring_at, function_at, only_described
from lg_field.cli.options import RegionFlags
from lg_field.cli.running import OPTIONS
from lg_field.files import FieldFile
from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.initialization import init_rows, uniform
from lg_field.ops import ChainSizes
from lg_field.signals import writing
from lg_field.signals.kinds import KINDS
from lg_field.signals.signal import Signal

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
HEAVY = {"torch", "numpy", "scipy", "PIL", "nerfstudio", "trimesh", "jaxtyping", "safetensors"}
SLOW = HEAVY - {"numpy", "jaxtyping"}
"""What takes long to import."""
COMPILER = "torch._dynamo"
"""Takes as long again as torch, and is imported by arithmetic on the meta device."""
PROGRAM = """
import sys
from lg_field.cli import main
sys.argv[0] = "lg-field"
try:
    main()
    print("STATUS", 0)
except SystemExit as stop:
    print("STATUS", int(stop.code or 0))
print("MODULES", *{name.split(".")[0] for name in sys.modules}, *({"torch._dynamo"} & set(sys.modules)))
"""


def run(*arguments: str) -> tuple[str, int, set[str]]:
    """What a command line prints in a fresh process, its exit status, and the top-level modules it imported (and
    `COMPILER` if it is among them)."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    printed, _, rest = done.stdout.partition("STATUS ")
    status, _, modules = rest.partition("\nMODULES ")
    return printed + done.stderr, int(status), set(modules.split())


@pytest.mark.parametrize(("words", "status"), [(("--help",), 0), ((), 2), (("nonsense",), 2), (("--nonsense",), 2)])
def test_help_and_mistakes_import_no_torch(words: tuple[str, ...], status: int) -> None:
    printed, got, modules = run(*words)
    assert got == status and "lg_field" in modules and not modules & HEAVY
    assert all(name in printed for name in COMMANDS) or words == ("--nonsense",)


def test_the_module_is_the_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lg_field", "crop"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 2 and "lg-field crop" in done.stderr


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_of_a_command_imports_no_torch(name: str) -> None:
    printed, status, modules = run(name, "--help")
    assert status == 0 and f"lg-field {name}" in printed and not modules & SLOW


def test_a_command_imports_what_it_needs() -> None:
    """Otherwise the laws above could not fail."""
    printed, status, modules = run("validate", str(GOLDEN / "image.safetensors"))
    assert status == 0 and "sound" in printed and "torch" in modules


def test_what_is_no_field_file_is_refused_without_torch(tmp_path: Path) -> None:
    (tmp_path / "field").write_bytes(b"no field file")
    printed, status, modules = run("crop", str(tmp_path / "field"), "--cells", "0", "--dry-run")
    assert status == 1 and "not a field file" in printed and "torch" not in modules


@pytest.mark.parametrize("name", ["image", "scene"])
def test_opening_and_cropping_a_file_need_no_compiler(tmp_path: Path, name: str) -> None:
    words = ("--cells", "0-3", "--dtype", "int8", "-o", str(tmp_path / "part.safetensors"))
    printed, status, modules = run("crop", str(GOLDEN / f"{name}.safetensors"), *words)
    assert status == 0 and "torch" in modules and COMPILER not in modules, printed


SIGNALS = {
    "image": Signal("image", (24, 32), 3),
    "audio": Signal("audio", (400,), 1, "float32", (-1.0, 1.0), 100.0),
    "video": Signal("video", (6, 12, 16), 3, rate=25.0),
    "volume": Signal("volume", (8, 9, 10), 1, "int16", (0.0, 9.0)),
    "shape": Signal("occupancy", (8, 8, 8), 1, "bool", (0.0, 1.0), origin=(-1.0, 0.0, 2.0), spacing=0.5),
}
CROPS = {
    "image": ["--box 3 4 20 13", "--sphere 16 12 6", "--cells 0-3,7", "--box 0 0 16 inf --invert --snap"],
    "audio": ["--box 0.5 1.7", "--cells 1 3"],
    "video": ["--box 1 2 3 4 9 10", "--box 1 2 3 4 9 10 --without box 2 3 4 3 8 9"],
    "volume": ["--sphere 4 4 5 3", "--obb 4 4 5 0.3 0.2 0.1 4 3 5", "--region plane.json"],
    "shape": ["--box -0.5 0.5 2.5 1 2 4", "--sphere 0 1 3 1.2 --also box 1 1 3 2 2 4"],
    "scene": ["--box -0.7 -0.7 -0.7 0.4 0.3 0.6", "--sphere 0 0 0 0.8 --invert", "--cells 0-30"],
    "contracted": ["--box -0.7 -0.7 -0.7 0.4 0.3 0.6", "--obb 0 0 0 0.3 0.2 0.1 1 0.8 1", "--region plane.json --snap"],
}
"""What is kept of each file, in words."""
SEVERAL = """
import json, sys
from lg_field.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["lg-field", *words]
    main()
print("TORCH", "torch" in sys.modules)
"""


def files_of_all_kinds(folder: Path) -> dict[str, Any]:
    """A file of every kind of field, with lines of a shared tensor and cells without a row; the fields by name."""
    torch.manual_seed(0)
    fields: dict[str, Any] = {}
    for name, signal in SIGNALS.items():
        grid = PartitionGrid((4,) * len(signal.shape), (-1.0,) * len(signal.shape), (1.0,) * len(signal.shape))
        cells = torch.arange(grid.num_cells) if name != "shape" else torch.arange(0, grid.num_cells, 3)
        sizes = ChainSizes(grid.dim, signal.channels, 3, 4, 1)
        fields[name] = LocalGlobalNetwork(grid, sizes, cells, fill=-1.0)
        fields[name].description, fields[name].history = signal, {"steps": 7}
    fields["shape"].set_cell_sets({"full": torch.arange(1, 64, 3)})
    for name in ("scene", "contracted"):
        fields[name] = small_scene(contraction=name == "contracted", hash_levels=3)
        fields[name].occupied.copy_(torch.rand(fields[name].occupied.shape) > 0.6)
    for name, field in fields.items():
        lg_field.save(field, folder / f"{name}.safetensors")
    plane = {"type": "half_space", "normal": [0.3, 0.5, -0.2], "offset": 0.1, "units": "domain"}
    (folder / "plane.json").write_text(json.dumps(plane))
    return fields


def test_cropping_a_file_imports_no_torch(tmp_path: Path) -> None:
    """And the file is that of a field that is cropped with it."""
    fields, words = files_of_all_kinds(tmp_path), []
    for name, parts in CROPS.items():
        parts = [part.replace("plane.json", str(tmp_path / "plane.json")).split() for part in parts]
        source = str(tmp_path / f"{name}.safetensors")
        words += [["crop", source, *p, "-o", str(tmp_path / f"{name}{k}.safetensors")] for k, p in enumerate(parts)]
    command = [sys.executable, "-W", "error", "-c", SEVERAL, json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0 and done.stdout.endswith("TORCH False\n"), done.stdout[-500:] + done.stderr[-2000:]
    for _, source, *flags, _, target in words:
        field = fields[Path(source).stem]
        with FieldFile.open(source) as file:
            asked = tyro.cli(RegionFlags, args=flags, config=OPTIONS)
            region, cells = asked.resolve(file.skeleton)
        part = lg_field.crop(field, region, cells=cells, invert=asked.invert)
        part.region = None if asked.snap else part.region
        lg_field.save(part, tmp_path / "part", overwrite=True)
        assert (tmp_path / "part").read_bytes() == Path(target).read_bytes(), (source, flags)


def test_weights_on_the_meta_device_have_sizes_only() -> None:
    """The random numbers that others get are the same."""
    sizes, layer = ChainSizes(2, 1, 3, 4, 1), torch.zeros(0, device="meta")
    with torch.device(layer.device):
        rows, drawn = init_rows(sizes, 5), uniform((2, 3), 1.0)
    assert rows.is_meta and drawn.is_meta and rows.shape == init_rows(sizes, 5).shape and drawn.shape == (2, 3)
    twice = [uniform((4, 4), 0.25, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*twice) and 0.2 < float(twice[0].abs().max()) <= 0.25
    assert torch.equal(twice[0], (torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 0.25)


def test_help_says_of_kinds_what_they_say() -> None:
    """Of every kind, in the order of registration: `FACTS` is to say what the class does."""
    found = [KindFacts(k.name, k.units, k.reads, k.writes, dict(k.fit), dict(k.network)) for k in KINDS.values()]
    assert list(FACTS) == found and writing.ARRAY == ARRAY


@pytest.mark.parametrize("name", list(COMMANDS))
def test_commands_are_described_as_they_describe_themselves(name: str) -> None:
    import inspect

    found = function_at(COMMANDS[name])
    assert docstring_at(COMMANDS[name]) == inspect.getdoc(found)
    assert list(needed(name)) == [name] and needed(name)[name] is found is commands()[name]
    assert list(needed(name.replace("-", "_"))) == [name]


def test_whatever_is_no_command_is_answered_without_one() -> None:
    for words in ("", "-h", "nonsense", "encod"):
        assert list(needed(words)) == list(COMMANDS) and needed(words)["crop"].__doc__ == docstring_at(COMMANDS["crop"])
    assert needed("--tyro-print-completion") == commands()


def test_a_described_function_is_the_function_when_it_is_run(tmp_path: Path) -> None:
    place = tmp_path / "shouting.py"
    place.write_text('def shout():\n    """Shouts."""\n    raise ValueError("here")\n\n\ndef silent():\n    pass\n')
    sys.path.insert(0, str(tmp_path))
    try:
        described = only_described("shouting:shout")
        assert described.__doc__ == "Shouts." and "shouting" not in sys.modules
        with pytest.raises(ValueError, match="here"):
            described()
        assert docstring_at("shouting:silent") == docstring_at("shouting:nothing") == ""
    finally:
        sys.path.remove(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        docstring_at("nowhere:shout")


def test_the_help_of_a_command_is_its_own(tmp_path: Path) -> None:
    text = lg("crop", "--help", cwd=tmp_path)
    assert text.startswith("usage: lg-field crop [-h]") and "--dry-run" in text


def test_modules_of_packages_that_import_late_are_there() -> None:
    code = (
        "import sys, lg_field.networks, lg_field.signals; assert 'torch' not in sys.modules; "
        "print(*(m.__name__ for m in (lg_field.networks.local_global, lg_field.signals.kinds, lg_field.signals.data)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["lg_field.networks.local_global", "lg_field.signals.kinds", "lg_field.signals.data"]
    assert not hasattr(lg_field.networks, "nothing")


def test_what_is_in_a_file_is_told_without_torch(tmp_path: Path) -> None:
    fields = files_of_all_kinds(tmp_path)
    words = [["info", str(tmp_path / f"{name}.safetensors"), *more] for name in fields for more in ((), ("--json",))]
    command = [sys.executable, "-W", "error", "-c", SEVERAL, json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0 and done.stdout.endswith("TORCH False\n"), done.stdout[-500:] + done.stderr[-2000:]
    for name, field in fields.items():
        with FieldFile.open(tmp_path / f"{name}.safetensors") as file:
            facts = facts_of(file)
        assert {key: facts["parameters"][key] for key in ("local", "shared", "total")} == field.num_parameters()
        parts = sum(count for key, count in facts["parameters"].items() if key not in ("local", "shared", "total"))
        assert parts == facts["parameters"]["shared"] and facts["cells"]["kept"] == field.num_rows
