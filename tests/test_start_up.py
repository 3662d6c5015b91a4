"""What a command line imports before it does anything: `lg-field --help` needs neither torch nor any command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import lg

from lg_field.cli import COMMANDS, commands, needed
from lg_field.cli.kind_facts import ARRAY, FACTS, KindFacts
from lg_field.cli.lazy import docstring_at, function_at, only_described
from lg_field.networks.initialization import init_rows, uniform
from lg_field.ops import ChainSizes
from lg_field.signals import writing
from lg_field.signals.kinds import KINDS

ROOT = Path(__file__).parents[1]
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


def test_a_command_imports_what_it_needs(tmp_path: Path) -> None:
    """Otherwise the laws above could not fail."""
    (tmp_path / "field").write_bytes(b"no field file")
    printed, status, modules = run("validate", str(tmp_path / "field"))
    assert status == 1 and "not a field file" in printed and "torch" in modules


@pytest.mark.parametrize("name", ["image", "scene"])
def test_opening_and_cropping_a_file_need_no_compiler(tmp_path: Path, name: str) -> None:
    golden = str(ROOT / "tests" / "golden" / f"{name}.safetensors")
    printed, status, modules = run("crop", golden, "--cells", "0-3", "-o", str(tmp_path / "part.safetensors"))
    assert status == 0 and "torch" in modules and COMPILER not in modules, printed


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
