"""Which samples a step draws: each cell's own, all of them, and with an overlap those around; of signals and shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.signals import SignalData
from lg_field.signals.batches import Batch, Windows, stratified
from lg_field.signals.data import Samples
from lg_field.signals.kinds import KINDS
from lg_field.signals.settings import CompleteFit, FitConfig, resolve_fit
from lg_field.signals.shapes.occupancy import from_array
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid

axis = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda p: (max(p), min(p)))
"""Samples and cells of an axis."""
KIND_OF = {1: "audio", 2: "image", 3: "volume"}


def data_of(shape: tuple[int, ...]) -> SignalData:
    """A signal each of whose samples is its own number."""
    count = int(np.prod(shape))
    samples = torch.arange(count, dtype=torch.float32).view(*shape, 1)
    return SignalData(samples, Signal(KIND_OF[len(shape)], shape, 1, "float32", (0.0, float(max(1, count - 1)))))


def grid_of(counts: tuple[int, ...], reach: float = 1.0) -> PartitionGrid:
    return PartitionGrid(counts, (-reach,) * len(counts), (reach,) * len(counts))


def owners(signal: Signal, grid: PartitionGrid) -> torch.Tensor:
    """(n,) cell of each sample, by the rule that the network asks: where its float32 coordinates lie."""
    axes = [signal.coordinates(grid, k, torch.arange(n)) for k, n in enumerate(signal.shape)]
    return grid.locate(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)).flatten()


def batch_of(data: Samples, grid: PartitionGrid, cells: torch.Tensor, config: FitConfig, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return data.batches(grid, cells, resolve_fit("image", config), generator)()


def numbers_of(data: SignalData, batch: Batch) -> torch.Tensor:
    """(n,) number of the sample at each point of a batch: from its place, and the same from its value."""
    signal = data.signal
    place = (batch.x.double() + 1) / 2 * torch.tensor(signal.shape, dtype=torch.float64) - 0.5
    index = place.round().long()
    assert float((place - index).abs().max()) < 1e-3
    numbers = torch.zeros(len(index), dtype=torch.int64)
    for k, n in enumerate(signal.shape):
        numbers = numbers * n + index[:, k]
    assert torch.allclose(batch.target, signal.normalize(data.flat()[numbers]))
    return numbers


@given(axes=st.lists(axis, min_size=1, max_size=3), overlap=st.integers(0, 3), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_every_sample_of_a_cell_can_be_drawn_for_it(axes: list[tuple[int, int]], overlap: int, seed: int) -> None:
    """And without an overlap no other: 9 x 9 pixels in 5 x 5 cells are all trained."""
    shape, counts = tuple(n for n, _ in axes), tuple(c for _, c in axes)
    signal, grid = data_of(shape).signal, grid_of(counts)
    cells = torch.arange(grid.num_cells)
    cells = cells[torch.from_numpy(np.random.default_rng(seed).random(len(cells)) < 0.7)]
    if len(cells) == 0:
        return
    index = grid.unravel(cells)
    for k, n in enumerate(shape):
        window, own = Windows.of(signal, grid, cells, overlap, k), signal.cell_index(grid, k)
        size = torch.as_tensor(window.size).expand(len(cells))
        first, last = window.first, window.first + size
        at = torch.arange(counts[k])
        lowest, highest = (torch.searchsorted(own, at, right=right)[index[:, k]] for right in (False, True))
        if overlap == 0:
            assert torch.equal(first, lowest) and torch.equal(last, highest)
        assert bool((first >= 0).all() and (last <= n).all())
        assert bool(
            (first <= (lowest - overlap).clamp_min(0)).all() and (last >= (highest + overlap).clamp_max(n)).all()
        )
        drawn = window.draw(5, torch.Generator().manual_seed(seed))
        assert bool((drawn >= first[:, None]).all() and (drawn < last[:, None]).all())


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize(
    ("shape", "counts"), [((9, 9), (5, 5)), ((1079,), (108,)), ((16, 16), (4, 4)), ((7, 5, 6), (3, 2, 4))]
)
def test_all_samples_are_drawn_in_the_end_each_for_the_cell_that_owns_it(
    shape: tuple, counts: tuple, stratify: bool
) -> None:
    data, grid = data_of(shape), grid_of(counts)
    cells, owner = torch.arange(grid.num_cells), owners(data.signal, grid)
    config = resolve_fit("image", FitConfig(sample_fraction=0.9, overlap=0, stratified=stratify))
    draw = data.batches(grid, cells, config, torch.Generator().manual_seed(0))
    seen = torch.zeros(data.signal.num_samples, dtype=torch.int64)
    for _ in range(40):
        batch = draw()
        numbers = numbers_of(data, batch)
        rows = torch.repeat_interleave(torch.arange(len(cells)), batch.offsets.diff())
        assert torch.equal(owner[numbers], cells[rows])
        seen += torch.bincount(numbers, minlength=len(seen))
    assert int(seen.min()) > 0, f"{int((seen == 0).sum())} samples are never trained"
    mean = torch.zeros(len(cells)).index_add(0, owner, seen.float()) / torch.bincount(owner)
    assert float(((seen - mean[owner]).square() / mean[owner]).mean()) < 2.0, "samples of a cell are not drawn alike"


@given(axes=st.lists(axis, min_size=1, max_size=3), count=st.integers(1, 60), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_stratified_samples_are_one_of_each_part_of_a_window(
    axes: list[tuple[int, int]], count: int, seed: int
) -> None:
    shape, counts = tuple(n for n, _ in axes), tuple(c for _, c in axes)
    signal, grid = data_of(shape).signal, grid_of(counts)
    cells = torch.arange(grid.num_cells)
    windows = [Windows.of(signal, grid, cells, seed % 2, k) for k in range(len(shape))]
    places = stratified(windows, count, torch.Generator().manual_seed(seed))
    number, total = torch.zeros(len(cells), count, dtype=torch.int64), torch.ones(len(cells), 1, dtype=torch.int64)
    for window, place in zip(windows, places):
        size = torch.as_tensor(window.size).expand(len(cells))[:, None]
        inside = place - window.first[:, None]
        assert place.shape == (len(cells), count) and bool(((inside >= 0) & (inside < size)).all())
        number, total = number * size + inside, total * size
    part = torch.arange(count)  # samples that a part holds a piece of: from its first to its last place
    assert bool((number >= part * total // count).all() and (number <= ((part + 1) * total - 1) // count).all())


def test_where_cells_are_alike_the_samples_are_those_of_whole_numbers_drawn() -> None:
    """One `randint` an axis, as ever: weights trained with a seed stay what they are."""
    data, grid = data_of((24, 30)), grid_of((4, 5))
    for overlap, sizes in ((0, (6, 6)), (2, (10, 10))):
        config = FitConfig(sample_fraction=0.3, overlap=overlap, stratified=False)
        batch = batch_of(data, grid, torch.arange(20), config, seed=5)
        generator, places = torch.Generator().manual_seed(5), []
        for k, (n, size) in enumerate(zip((24, 30), sizes)):
            first = (grid.unravel(torch.arange(20))[:, k] * 6 - overlap).clamp(0, n - size)
            places.append((first[:, None] + torch.randint(size, (20, 11), generator=generator)).flatten())
        assert torch.equal(numbers_of(data, batch), places[0] * 30 + places[1])


@given(axes=st.lists(axis, min_size=1, max_size=2), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_all_samples_a_step_are_each_sample_once(axes: list[tuple[int, int]], seed: int) -> None:
    shape, counts = tuple(n for n, _ in axes), tuple(c for _, c in axes)
    data, grid = data_of(shape), grid_of(counts)
    chosen = torch.from_numpy(np.random.default_rng(seed).random(grid.num_cells) < 0.6)
    chosen[seed % grid.num_cells] = True
    cells = chosen.nonzero()[:, 0]
    batch = batch_of(data, grid, cells, FitConfig())
    numbers, owner = numbers_of(data, batch), owners(data.signal, grid)
    assert torch.equal(numbers.sort().values, torch.isin(owner, cells).nonzero()[:, 0])
    rows = torch.repeat_interleave(torch.arange(len(cells)), batch.offsets.diff())
    assert torch.equal(owner[numbers], cells[rows])


@given(shape=st.tuples(*[st.integers(6, 17)] * 3), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_voxels_without_an_overlap_are_the_cells_own(shape: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    solid = np.linalg.norm(np.indices(shape) - np.array(shape)[:, None, None, None] / 2, axis=0) < min(shape) / 3
    if solid.all() or not solid.any():
        return
    data, counts = from_array(solid, "ball"), tuple(int(c) for c in rng.integers(1, 6, 3))
    grid = grid_of(counts)
    cells, owner = torch.arange(grid.num_cells), owners(data.signal, grid)
    config = CompleteFit(points=40 * grid.num_cells + solid.size // 10, sample="uniform", overlap=0)
    draw, seen = data.batches(grid, cells, config, torch.Generator().manual_seed(seed)), torch.zeros(solid.size)
    for _ in range(60):
        batch = draw()
        voxel = ((batch.x.double() + 1) / 2 * torch.tensor(shape) - 0.5).round().long()
        numbers = (voxel[:, 0] * shape[1] + voxel[:, 1]) * shape[2] + voxel[:, 2]
        rows = torch.repeat_interleave(torch.arange(len(cells)), batch.offsets.diff())
        assert torch.equal(owner[numbers], cells[rows])
        assert torch.equal(batch.target[:, 0] > 0, torch.from_numpy(solid)[tuple(voxel.T)])
        seen[numbers] += 1
    assert float((seen > 0).float().mean()) > 0.9


def test_a_frame_is_drawn_in_the_cell_that_the_network_asks() -> None:
    """Frame 1 of 3 lies in the middle of the domain: in the second of two cells."""
    from pathlib import Path

    from lg_field.signals.encode import build_network
    from lg_field.signals.settings import NetworkConfig
    from lg_field.viewer.signals import SignalSubject

    for frames, cells in ((3, 2), (5, 2), (7, 3), (40, 7)):
        signal = Signal("video", (frames, 4, 6), 3, rate=10.0)
        field = build_network(signal, NetworkConfig(counts=(cells, 1, 1), local_width=2, global_width=2))
        subject = SignalSubject(field, Path("x.safetensors"))
        for frame in range(frames):
            subject.frame = frame
            middle = torch.tensor([[float(signal.coordinates(field.grid, 0, torch.tensor([frame]))), 0.0, 0.0]])
            drawn = subject.drawn(torch.ones(field.num_rows, dtype=torch.bool))
            assert drawn.rows.tolist() == field.locate_rows(middle).tolist()
    assert [n for n, kind in KINDS.items() if kind.flat] == ["image", "audio", "video"]
