"""Rays asked front to back by one kernel are what rounds of torch are; threads that help change no bit."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_cpu_kernel import threads
from torch import Tensor

from lg_field import PartitionGrid, Region
from lg_field.radiance import render
from lg_field.radiance.compositing import Samples
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.fused import fused_rounds
from lg_field.radiance.render import Asked, ask, field_samples
from lg_field.radiance.stopping import FIRST, round_sizes
from lg_field.table.kept_lines import KeptLines

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
COUNT = 300


def a_scene(contraction: bool = False) -> RadianceField:
    """Half of the cells of a cube, dense throughout; without a colour layer, which torch does."""
    torch.manual_seed(0)
    reach = 2.0 if contraction else 1.0
    options = {"contraction": contraction, "contracted_density": contraction, "density_bias": 2.0, "local_width": 4}
    sizes = RadianceSizes(
        global_width=8, color_width=0, color_features=27, grid_nodes=3, grid_features=2, hash_levels=2, **options
    )
    cells = torch.randperm(64)[:32].sort().values
    field = RadianceField(PartitionGrid((4, 4, 4), (-reach,) * 3, (reach,) * 3), sizes, cells)
    with torch.no_grad():
        field.local.copy_(torch.randn_like(field.local) * 0.5)
    return field.eval()


def some_rays(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    origins = torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=generator), dim=1) * 2.5
    return origins, torch.nn.functional.normalize(0.4 * torch.randn(COUNT, 3, generator=generator) - origins, dim=1)


def marched(field: RadianceField, step: float = 0.02) -> tuple[Tensor, Tensor, Samples]:
    rays = some_rays()
    return *rays, field_samples(field, *rays, torch.zeros(COUNT), torch.full((COUNT,), 9.0), step)


@torch.no_grad()
def seen(field: RadianceField, least_light: float) -> Asked:
    return ask(field, *marched(field), least_light=least_light, marched=True)


def said(asked: Asked) -> tuple[Tensor, ...]:
    assert asked.colors is not None and asked.dependence is not None
    return *asked.samples, asked.density, asked.colors, asked.dependence


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("least_light", [0.0, 1e-3, 0.3])
def test_rounds_are_those_of_torch(
    contraction: bool, cut: bool, least_light: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which samples are asked, and what is said of them; of scenes cut to a region, too."""
    field = a_scene(contraction=contraction)
    field.region = Region.box((-0.7, -2.0, -2.0), (2.0, 0.6, 2.0)) if cut else None
    ours = seen(field, least_light)
    monkeypatch.setattr(render, "fused_rounds", lambda *_: None)
    theirs = seen(field, least_light)
    everything = len(marched(field)[2].rays)
    assert len(ours.samples.rays) == everything if least_light == 0.0 else 0 < len(ours.samples.rays) <= everything
    for a, b in zip(said(ours), said(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert all(map(torch.equal, ours.samples, theirs.samples))


def test_rays_end_where_enough_is_passed() -> None:
    """A ray is asked round by round, as long as it had passed less than the limit when a round began."""
    field, least = a_scene(), 0.6
    with torch.no_grad():
        field.shared["head_bias"][0] += 3.0  # dense enough to stop rays
    asked, everything = seen(field, least), torch.bincount(marched(field)[2].rays, minlength=COUNT)
    counts = torch.bincount(asked.samples.rays, minlength=COUNT)
    assert bool((counts < everything).any())
    thickness = (asked.density * asked.samples.lengths).double()
    for ray in counts.nonzero()[:, 0].tolist():
        own, first, left = thickness[asked.samples.rays == ray], 0, int(everything[ray])
        for size in round_sizes():
            if first >= left or (first and float(own[:first].sum()) >= -math.log(least)):
                break
            first += min(size, left - first)
        assert len(own) == first


def test_rounds_are_the_same_whatever_the_threads() -> None:
    field = a_scene()
    with threads(1):
        first = said(seen(field, 1e-3))
    for number in (2, 3, 5):
        with threads(number):
            assert all(map(torch.equal, first, said(seen(field, 1e-3))))


def test_many_may_ask_for_help_at_once() -> None:
    """Threads of Python, each of which has kernels that ask for helpers."""
    field = a_scene()
    expected = said(seen(field, 1e-3))

    def look(_: int) -> bool:
        torch.set_num_threads(3)
        return all(map(torch.equal, expected, said(seen(field, 1e-3))))

    with threads(3), ThreadPoolExecutor(4) as several:
        assert all(several.map(look, range(16)))


def test_rounds_are_refused_where_torch_has_to_do_them() -> None:
    field = a_scene()
    origins, directions, samples = marched(field)
    asked = field, origins, directions, samples, (FIRST,), 0.0
    with torch.no_grad():
        assert fused_rounds(*asked) is not None
        field.backend = "torch"
        assert fused_rounds(*asked) is None
    field.backend = "auto"
    assert fused_rounds(*asked) is None  # gradients are wanted


def test_rays_without_a_sample_are_no_round() -> None:
    field = a_scene()
    away = torch.full((COUNT, 3), 50.0), some_rays()[1]
    with torch.no_grad():
        samples = field_samples(field, *away, torch.zeros(COUNT), torch.full((COUNT,), 1.0), 0.02)
        asked = ask(field, *away, samples, least_light=1e-3, marched=True)
    assert len(asked.density) == 0 and asked.colors is not None and asked.colors.shape == (0, 3)


FORKING = """
import os, sys, torch
sys.path.insert(0, sys.argv[1])
from test_cpu_rounds import a_scene, said, seen
torch.set_num_threads(2)
field = a_scene()
first = said(seen(field, 1e-3))
child = os.fork()
if child == 0:
    os._exit(0 if all(map(torch.equal, first, said(seen(field, 1e-3)))) else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_a_forked_process_has_helpers_of_its_own() -> None:
    command = [sys.executable, "-c", FORKING, __file__.rpartition("/")[0]]
    done = subprocess.run(command, timeout=250, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lines_are_spread_anew_when_they_change() -> None:
    kept, mask = KeptLines(20), torch.arange(20) % 3 == 0
    kept.set_(mask)
    lines = torch.nn.Parameter(torch.randn(7, 2))
    first = kept.spread_once(lines)
    assert torch.equal(first, kept.spread(lines)) and not first.requires_grad
    assert kept.spread_once(lines) is first
    with torch.no_grad():
        lines[0] = 5.0
    assert torch.equal(kept.spread_once(lines), kept.spread(lines)) and not torch.equal(kept.spread_once(lines), first)
    kept.set_(torch.arange(20) % 3 == 1)
    assert torch.equal(kept.spread_once(lines), kept.spread(lines))
    lines.data = torch.randn(7, 2)
    assert torch.equal(kept.spread_once(lines), kept.spread(lines))
    kept.set_(None)
    assert torch.equal(kept.spread_once(torch.ones(20, 2)), torch.ones(20, 2))
