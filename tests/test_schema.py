"""What is written can be read: one schema for both directions; writes that end whole, with the right permissions."""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.files import FieldFile, FileError, atomic_write
from lg_field.files.schema import NETWORKS, validate
from lg_field.networks.local_global import LocalGlobalNetwork
from lg_field.ops import ChainSizes
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.scene import Scene
from lg_field.signals.signal import Signal

IDENTITY = tuple(tuple(float(i == j) for i in range(4)) for j in range(4))
plain = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
histories = st.dictionaries(
    st.text(max_size=8), st.recursive(plain | st.text(max_size=8), lambda v: st.lists(v, max_size=3)), max_size=4
)
whole_or_not = st.integers(-3, 3) | st.floats(-3.0, 3.0, width=32)


@st.composite
def networks(draw: st.DrawFn) -> LocalGlobalNetwork:
    dim = draw(st.integers(1, 4))
    widths = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any))
    sizes = ChainSizes(
        dim,
        draw(st.integers(1, 3)),
        *widths,
        draw(st.integers(0, 2)),
        activation=draw(st.sampled_from(["sine", "relu"])),
        w0=draw(st.integers(1, 40) | st.floats(0.5, 40.0)),
        merge=draw(st.sampled_from(["concat", "add"])),
    )
    counts = tuple(draw(st.lists(st.integers(1, 3), min_size=dim, max_size=dim)))
    grid = PartitionGrid(counts, tuple(-1.0 - k for k in range(dim)), (1,) * dim)
    kinds = torch.randint(3, (grid.num_cells,), generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    kinds[0] = 0
    field = LocalGlobalNetwork(grid, sizes, (kinds == 0).nonzero()[:, 0], fill=draw(whole_or_not))
    field.set_cell_sets({"full": (kinds == 1).nonzero()[:, 0]})
    if draw(st.booleans()):
        center = draw(st.lists(st.floats(-1.0, 1.0), min_size=dim, max_size=dim))
        field.region = ~Region.sphere(center, 0.5) | Region.box([-1] * dim, [1] * dim)
    kind = {1: "audio", 2: "image", 3: draw(st.sampled_from(["video", "volume"]))}.get(dim)
    if kind is not None and draw(st.booleans()):
        field.description = Signal(kind, (5,) * dim, sizes.out_features, "float32", (0.0, 1.0))
    field.history = draw(histories)
    return field


@st.composite
def scenes(draw: st.DrawFn) -> RadianceField:
    contraction = draw(st.booleans())
    sizes = RadianceSizes(
        network=draw(st.sampled_from(["local-global", "per-partition", "global"])),
        local_width=3,
        global_width=3,
        activation=draw(st.sampled_from(["relu", "sine"])),
        grid_nodes=draw(st.sampled_from([0, 2])),
        global_reads_grid=draw(st.booleans()),
        hash_levels=draw(st.integers(0, 2)),
        log2_hashmap_size=4,
        hash_base_res=2,
        occupancy_voxels=2,
        contraction=contraction,
        density_bias=draw(st.floats(-3.0, 1.0)),
    )
    reach = 2.0 if contraction else 1.5
    field = RadianceField(PartitionGrid((2, 1, 2), (-reach,) * 3, (reach,) * 3), sizes, torch.tensor([0, 2]))
    field.occupied.copy_(torch.rand(field.occupied.shape) > 0.5)
    if draw(st.booleans()):
        field.region = Region.sphere((0, 0, 0), 1) & ~Region.box((0, 0, 0), (1, 1, 1))
    field.description = draw(st.sampled_from([None, Scene(IDENTITY), Scene(IDENTITY, camera=IDENTITY, focal=2.0)]))
    field.history = draw(histories)
    return field


@settings(max_examples=40)
@given(field=networks() | scenes(), dtype=st.sampled_from(["float32", "float16", "bfloat16"]))
def test_whatever_is_written_is_read(field: Any, dtype: Any, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "written"
    lg_field.save(field, path, dtype=dtype, overwrite=True)
    before = torch.get_rng_state()
    back = lg_field.load(path)
    assert torch.equal(torch.get_rng_state(), before), "loading draws no random numbers"
    assert (back.grid, back.region, back.description, back.history) == (
        (field.grid, field.region, field.description, field.history)
    )
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in back.config().items()} == {
        k: list(v) if isinstance(v, tuple) else v for k, v in field.config().items()
    }
    ours, theirs = field.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if torch.is_tensor(value):
            stored = value.to(getattr(torch, dtype)).float() if value.is_floating_point() else value
            assert torch.equal(theirs[name], stored), name
    again = path.with_name("again")
    lg_field.save(back, again, dtype=dtype, overwrite=True)
    assert again.read_bytes() == path.read_bytes()


# -- what is refused is never written


def network(dim: int = 2, **changes: Any) -> LocalGlobalNetwork:
    field = LocalGlobalNetwork(PartitionGrid((2,) * dim, (-1.0,) * dim, (1.0,) * dim), ChainSizes(dim, 1, 3, 3, 0))
    for name, value in changes.items():
        setattr(field, name, value)
    return field


class Renamed(LocalGlobalNetwork):
    """A class that no file names."""


def deep(levels: int) -> list:
    return [deep(levels - 1)] if levels else []


REFUSED = {
    "five axes": (lambda: network(5), "at most 4 whole numbers"),
    "a fill that is no number": (lambda: network(fill=math.nan), "finite"),
    "a region of another space": (
        lambda: network(region=Region.sphere((0, 0, 0), 1)),
        "a sphere of 3 axes, the field has 2",
    ),
    "an endless region": (lambda: network(region=Region.box((0, 0), (1, math.inf))), "finite"),
    "a description of other axes": (lambda: network(description=Signal("audio", (4,), 1)), "axes"),
    "a description of other channels": (lambda: network(description=Signal("image", (4, 4), 3)), "channels"),
    "a scene's description": (lambda: network(description=Scene(IDENTITY)), "signal needs the entries"),
    "a history of tensors": (lambda: network(history={"loss": torch.zeros(1)}), "plain numbers and text, got Tensor"),
    "a history of names that are numbers": (lambda: network(history={1: 2}), "names in history must be text"),
    "a history that is not finite": (lambda: network(history={"loss": math.inf}), "history.loss must be finite"),
    "a history too deep": (lambda: network(history={"a": deep(900)}), "nested too deeply"),
    "a history of huge numbers": (lambda: network(history={"a": 10**5000}), "64 bits"),
    "a history too large": (lambda: network(history={"a": "b" * (1 << 20)}), "at most"),
    "a history that is a list": (lambda: network(history=[1]), "history must be an object"),
    "full cells that have rows": (lambda: network(full=torch.tensor([0])), "must have no row"),
    "full cells beyond the grid": (lambda: network(full=torch.tensor([99])), "sorted, distinct and in"),
    "another class": (
        lambda: Renamed(PartitionGrid((2,), (0.0,), (1.0,)), ChainSizes(1, 1, 3, 3, 0)),
        "cannot be saved",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_not_be_read_is_not_written(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    path = tmp_path / "new" / "f"
    old = tmp_path / "old"
    old.write_text("as it was")
    for target, overwrite in ((path, False), (old, True)):
        with pytest.raises(ValueError, match=message) as refusal:
            lg_field.save(make(), target, overwrite=overwrite)
        assert "\n" not in str(refusal.value)
    assert old.read_text() == "as it was"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [old], "no file is left, whole or temporary"


def forged(path: Path, **changes: Any) -> None:
    """Change the description of a file by hand."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header["__metadata__"]["lg_field"])
    header["__metadata__"]["lg_field"] = json.dumps(about | changes)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_save_and_load_refuse_in_the_same_words(tmp_path: Path) -> None:
    five = {"counts": [2] * 5, "lower": [-1.0] * 5, "upper": [1.0] * 5}
    ball, flat = Region.sphere((0, 0, 0), 1), {"kind": "audio", "shape": [4], "channels": 1}
    pairs = [
        (network(5), {"grid": five}),
        (network(region=ball), {"region": ball.to_dict()}),
        (network(history=[1]), {"history": [1]}),
        (network(history={"a": 2**70}), {"history": {"a": 2**70}}),
        (network(description=Signal(**flat)), {"description": Signal(**flat).to_dict()}),  # type: ignore[arg-type]
    ]
    for field, changes in pairs:
        with pytest.raises(ValueError) as save_says:
            lg_field.save(field, tmp_path / "x")
        lg_field.save(network(), tmp_path / "f", overwrite=True)
        forged(tmp_path / "f", **changes)
        with pytest.raises(FileError) as load_says:
            lg_field.load(tmp_path / "f")
        assert str(load_says.value) == f"{tmp_path / 'f'}: {save_says.value}"


def test_a_version_is_a_reader_and_a_network_a_name(tmp_path: Path) -> None:
    path = tmp_path / "f"
    lg_field.save(network(), path)
    with FieldFile.open(path) as file:
        data = file.data
    header = validate(data)
    assert header.grid == network().grid and header.field(torch.arange(4), "meta").local.is_meta
    for version in (0, 2, True, "1", None, 1.0):
        with pytest.raises(ValueError, match="reads format 'lg-field' version 1, not"):
            validate(data | {"version": version})
    for junk in (None, [], "text", {}, {"format": "lg-field"}):
        with pytest.raises(ValueError, match="reads format"):
            validate(junk)
    for name in ("os.system", ["signal"], None):
        with pytest.raises(ValueError, match="unknown network"):
            validate(data | {"network": name})
    assert {name: kind.network_class().__name__ for name, kind in NETWORKS.items()} == {
        "signal": "LocalGlobalNetwork",
        "radiance": "RadianceField",
    }


# -- whole or not at all


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o000])
def test_a_written_file_has_the_permissions_of_any_new_file(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "f") as temporary:
            assert mode(temporary) == 0o666 & ~umask
    finally:
        os.umask(before)
    assert mode(tmp_path / "f") == 0o666 & ~umask


def test_writing_never_opens_the_files_of_other_threads_to_the_world(tmp_path: Path, monkeypatch) -> None:
    """The umask is the whole process's: whoever sets it to 0, even for a moment, sets it for all threads."""
    before, switch = os.umask(0o022), sys.getswitchinterval()
    stop, modes, made = threading.Event(), set(), os.umask
    (tmp_path / "others").mkdir()

    def others() -> None:
        path = tmp_path / "others" / "f"
        while not stop.is_set():
            path.touch()
            modes.add(mode(path))
            path.unlink()

    def spied(mask: int) -> int:
        path = tmp_path / f"{mask:o}"
        result = made(mask)
        path.touch()  # what another thread may do just then
        modes.add(mode(path))
        return result

    thread = threading.Thread(target=others)
    monkeypatch.setattr(os, "umask", spied)
    try:
        sys.setswitchinterval(1e-6)
        thread.start()
        for _ in range(100):
            with atomic_write(tmp_path / "f", overwrite=True) as temporary:
                temporary.write_text("text")
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(switch)
        made(before)
    assert modes == {0o644}


def test_a_link_is_followed_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link, dangling = tmp_path / "there" / "f", tmp_path / "link", tmp_path / "dangling"
    real.write_text("old")
    link.symlink_to(Path("there") / "f")
    dangling.symlink_to(tmp_path / "there" / "g")
    with pytest.raises(FileExistsError, match="--overwrite"), atomic_write(link):
        pass
    for path in (link, dangling):
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text("new")
        assert path.is_symlink() and path.read_text() == "new"
    assert real.read_text() == "new" and sorted(p.name for p in tmp_path.iterdir()) == ["dangling", "link", "there"]
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["f", "g"]


def test_what_is_no_file_is_not_written_over(tmp_path: Path) -> None:
    folder, pipe, loop = tmp_path / "folder", tmp_path / "pipe", tmp_path / "loop"
    folder.mkdir()
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, said in ((folder, "is a folder"), (pipe, "is a device"), (loop, "leads to itself")):
        for overwrite in (False, True):
            with pytest.raises(OSError, match=said) as refusal, atomic_write(path, overwrite):
                pass
            assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == [folder, loop, pipe]
    with pytest.raises(OSError, match="is a device"), atomic_write("/dev/null", overwrite=True):
        pass


# -- the package


def imported(code: str) -> set[str]:
    command = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_no_torch() -> None:
    assert "torch" not in imported("import lg_field; dir(lg_field)")
    assert "torch" in imported("import lg_field; lg_field.crop"), "this test could not fail"


def test_public_names_are_there_when_asked_for() -> None:
    for name in lg_field.__all__:
        assert getattr(lg_field, name).__name__ == name and name in dir(lg_field)
    assert lg_field.files.FieldFile is FieldFile and lg_field.Region is Region
    with pytest.raises(AttributeError, match="no attribute 'uncrop'"):
        lg_field.uncrop  # noqa: B018
