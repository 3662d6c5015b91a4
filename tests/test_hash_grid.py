"""The shared part's grid: the table means what instant-ngp's means, whoever evaluates it."""

from __future__ import annotations

import itertools
import math
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lg_field import PartitionGrid, crop, load, save
from lg_field.radiance import tcnn
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.hash_grid import HashGrid

GRID = HashGrid(levels=3, features=2, log2_size=9, base_res=6)
"""A level of 6^3 = 216 nodes that is dense, and two that are hashed into 512 entries."""


def by_hand(grid: HashGrid, table: torch.Tensor, point: list[float]) -> list[float]:
    """One point, in plain numbers, 32 bits a hash as on a GPU."""
    result, first = [], 0
    for level in range(grid.levels):
        nodes = grid.base_res * 2**level
        size = min(math.ceil(nodes**3 / 8) * 8, 2**grid.log2_size)
        place = [x * (nodes - 1) + 0.5 for x in point]
        total = [0.0] * grid.features
        for corner in itertools.product((0, 1), repeat=3):
            at = [math.floor(p) + c for p, c in zip(place, corner)]
            weight = math.prod(p % 1 if c else 1 - p % 1 for p, c in zip(place, corner))
            hashed = 0
            for i, prime in zip(at, (1, 2654435761, 805459861)):
                hashed ^= i * prime % 2**32
            line = hashed if nodes**3 > size else at[0] + nodes * (at[1] + nodes * at[2])
            for f in range(grid.features):
                total[f] += weight * float(table[first + line % size, f])
        result += total
        first += size
    return result


def test_every_level_reads_the_entries_that_the_paper_says():
    torch.manual_seed(0)
    table, points = torch.randn(GRID.num_entries, GRID.features, dtype=torch.float64), torch.rand(40, 3).double()
    points[:2] = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    wanted = torch.tensor([by_hand(GRID, table, p) for p in points.tolist()], dtype=torch.float64)
    assert GRID.num_entries == 216 + 512 + 512
    torch.testing.assert_close(GRID.encode(table, points), wanted)
    beyond = points * 4 - 1.5  # outside the domain: as at the nearest point in it
    assert torch.equal(GRID.encode(table, beyond), GRID.encode(table, beyond.clamp(0, 1)))


def test_entries_get_the_gradients_of_what_was_read():
    grid = HashGrid(levels=2, features=1, log2_size=4, base_res=2)
    table = torch.randn(grid.num_entries, 1, dtype=torch.float64, requires_grad=True)
    points = torch.rand(5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: grid.encode(t, points), (table,))


def make_field(**sizes) -> RadianceField:
    torch.manual_seed(0)
    shape = RadianceSizes(
        local_width=4, global_width=8, grid_nodes=3, hash_levels=3, hash_base_res=6, log2_hashmap_size=9, **sizes
    )
    field = RadianceField(PartitionGrid((2, 2, 2), (-1,) * 3, (1,) * 3), shape)
    with torch.no_grad():
        assert field.hash_table is not None
        field.hash_table.normal_()
    return field.eval()


def test_a_crop_and_a_file_keep_what_their_cells_read(tmp_path: Path):
    field = make_field()
    points = torch.rand(300, 3) * 2 - 1
    small = crop(field, cells=[1, 6])
    kept = torch.isin(field.grid.locate(points), small.cells)
    assert 0 < kept.sum() < 300
    assert torch.equal(small.density(points)[kept], field.density(points)[kept])
    assert torch.equal(small.hash_table, field.hash_table[small.kept_lines["hash_table"].mask()])
    save(small, tmp_path / "small.safetensors")
    assert torch.equal(load(tmp_path / "small.safetensors").density(points), small.density(points))


def test_the_shared_part_reads_it_and_cells_alone_have_none():
    field, points = make_field(), torch.rand(50, 3)
    before = field.density(points)
    with torch.no_grad():
        field.hash_table.zero_()
    assert not torch.equal(field.density(points), before)
    shape = RadianceSizes(network="per-partition", hash_levels=3)
    assert RadianceField(field.grid, shape).hash_table is None


@pytest.mark.parametrize(
    "sizes",
    [
        {"hash_levels": 17},
        {"hash_levels": 2**31},
        {"log2_hashmap_size": 25},
        {"hash_features": 3},
        {"hash_base_res": 1},
    ],
)
def test_senseless_sizes_are_named(sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        RadianceSizes(**{"hash_levels": 2} | sizes)


class Other(torch.nn.Module):
    """Stands for tiny-cuda-nn's module: a flat parameter, evaluated in its own way."""

    def __init__(self, factor: float, size: int) -> None:
        super().__init__()
        self.factor, self.params = factor, torch.nn.Parameter(torch.zeros(size))

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        return self.factor * GRID.encode(self.params.view(-1, GRID.features), unit)


def test_another_implementation_works_on_our_table_or_is_refused():
    numbers, cpu = GRID.num_entries * GRID.features, torch.device("cpu")
    encode = tcnn.checked(GRID, Other(1.0, numbers), cpu)
    table, points = torch.randn(GRID.num_entries, GRID.features, requires_grad=True), torch.rand(20, 3)
    encode(table, points).square().sum().backward()
    again = table.detach().clone().requires_grad_()
    GRID.encode(again, points).square().sum().backward()
    assert torch.equal(table.grad, again.grad)
    for wrong in (Other(1.01, numbers), Other(1.0, numbers + 8)):
        with pytest.raises(ValueError, match="same table"):
            tcnn.checked(GRID, wrong, cpu)


def test_tcnn_without_a_gpu_says_what_it_needs_and_auto_is_torch():
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match="needs a CUDA GPU, the field is on cpu: take auto or torch"):
        tcnn.encoder(GRID, "tcnn", cpu)
    table, points = torch.randn(GRID.num_entries, GRID.features), torch.rand(20, 3)
    for implementation in ("auto", "torch"):
        assert torch.equal(tcnn.encoder(GRID, implementation, cpu)(table, points), GRID.encode(table, points))


class Slow(torch.nn.Module):
    """A stand-in for tiny-cuda-nn's module, whose calls take so long that threads meet."""

    def __init__(self) -> None:
        super().__init__()
        self.params = torch.nn.Parameter(torch.zeros(GRID.num_entries * GRID.features))

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        before = self.params
        time.sleep(0.002)
        assert self.params is before
        return GRID.encode(self.params.view(-1, GRID.features), unit)


def test_threads_read_their_own_tables():
    encode, points = tcnn.checked(GRID, Slow(), torch.device("cpu")), torch.rand(30, 3)
    tables = [torch.randn(GRID.num_entries, GRID.features) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: encode(tables[k % 4], points), range(16)))
    for k, values in enumerate(found):
        assert torch.equal(values, GRID.encode(tables[k % 4], points))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("raise OSError('no GPU that it was built for')", r"broken \(no GPU that it was built for\)"),
        ("import a_module_that_is_not_there", r"broken \(No module named 'a_module_that_is_not_there'\)"),
        ("class Encoding:\n    def __init__(self, *a, **k): raise KeyError('otype')", "does not run here"),
    ],
)
def test_a_broken_tiny_cuda_nn_is_a_warning_and_torch(tmp_path, monkeypatch, content: str, match: str):
    (tmp_path / "tinycudann.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tinycudann", raising=False)
    tcnn.encoder.cache_clear()
    device = torch.device("cuda")
    with pytest.raises(ValueError, match=match):
        tcnn.encoder(GRID, "tcnn", device)
    with pytest.warns(UserWarning, match=match):
        assert tcnn.encoder(GRID, "auto", device) == GRID.encode
    sys.modules.pop("tinycudann", None)
    tcnn.encoder.cache_clear()


def test_tiny_cuda_nn_that_is_not_installed_is_no_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    tcnn.encoder.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tcnn.encoder(GRID, "auto", torch.device("cuda")) == GRID.encode
    with pytest.raises(ValueError, match="install tinycudann"):
        tcnn.encoder(GRID, "tcnn", torch.device("cuda"))
    tcnn.encoder.cache_clear()


def test_tiny_cuda_nn_reads_the_same_values():
    pytest.importorskip("tinycudann", reason="tiny-cuda-nn is not installed", exc_type=(ImportError, OSError))
    if not torch.cuda.is_available():
        pytest.skip("tiny-cuda-nn needs a CUDA GPU")
    device = torch.device("cuda")
    table = torch.randn(GRID.num_entries, GRID.features, device=device)
    points = torch.rand(1000, 3, device=device)
    values = tcnn.encoder(GRID, "tcnn", device)(table, points)
    torch.testing.assert_close(values, GRID.encode(table, points), atol=1e-3, rtol=1e-3)
