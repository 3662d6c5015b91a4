"""Rays through the cells of many ranks: each rank asks the field in its own, and all see what the whole ray sees."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.distributed.owners import Owners
from lg_field.distributed.ranks import Ranks
from lg_field.distributed.runs import OwnRuns, Runs
from lg_field.radiance.compositing import Samples, transmittances
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import Asked, Picture
from lg_field.radiance.seams import border_points

THICKNESS, SUMS, SEEN, MOMENTS = slice(0, 1), slice(1, 5), slice(5, 6), slice(6, 8)
"""Columns of what owners say of a run: its optical thickness; colour and depth; how many of its samples are seen; and
where the distortion loss is wanted, what it needs."""


class SharedRays:
    """Rays with the field asked along them by all ranks. `ask`, then `picture`, once each."""

    def __init__(
        self,
        field: RadianceField,
        owners: Owners,
        ranks: Ranks,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        samples: Samples,
    ) -> None:
        """
        Args:
            field: with this rank's rows.
            owners: who owns which cell.
            ranks: all of them ask along the same rays.
            origins: (N, 3) scene units.
            directions: (N, 3) unit vectors.
            samples: M packed samples, all of those in occupied space.
        """
        self.field, self.owners, self.ranks = field, owners, ranks
        self.origins, self.directions, self.samples = origins, directions, samples
        shared = next(iter(field.shared.values()), field.local[:1])
        self.nothing = 0.0 * shared.sum()
        """0, as a result of parameters: what is computed of it has gradients, though this rank asked nothing."""

    def numbers_of_unit(self, unit: Float[Tensor, "points 3"]) -> Int64[Tensor, " points"]:
        """Unit coordinates -> place in `owners.cells` of the cell that owns each point, -1 where no rank has it."""
        cells = self.field.frame.locate(unit)
        return torch.where(cells >= 0, self.owners.number_of_cell[cells.clamp_min(0)], -1)

    def rows_of(self, numbers: Int64[Tensor, " points"]) -> Int64[Tensor, " points"]:
        """Row here of cells given by their place in `owners.cells`; -1 where there is none."""
        cells = self.owners.cells[numbers.clamp_min(0)]
        return torch.where(numbers >= 0, self.field.row_of_cell()[cells], -1)

    def ask(self, overlap: float, least_light: float) -> Asked:
        """Ask the field in the samples that this rank owns; arguments as in `render.ask`. Only its own ones are in the
        result, those that light gets through to."""
        positions = self.samples.positions(self.origins, self.directions)
        unit, self.numbers = self.field.owners(positions, overlap, rows_of=self.numbers_of_unit)
        owner = torch.where(self.numbers >= 0, self.owners.rank[self.numbers.clamp_min(0)], 0)
        self.runs = Runs.of(self.samples.rays, owner)
        mine = (owner == self.ranks.rank).nonzero()[:, 0]
        ours = Samples(*(values[mine] for values in self.samples))
        answer = self._answer(unit[mine], self.rows_of(self.numbers[mine]), ours.rays)
        own = self.runs.owners == self.ranks.rank
        number = own.cumsum(0) - 1
        self.own = OwnRuns(ours._replace(rays=number[self.runs.of_sample[mine]]), int(own.sum()))
        if least_light > 0.0:
            seen = self._seen(answer[0].detach(), least_light)
            ours, in_runs = (Samples(*(values[seen] for values in some)) for some in (ours, self.own.samples))
            self.own = self.own._replace(samples=in_runs)
            answer = [None if values is None else values[seen] for values in answer]
        self.asked = Asked(self.field, self.origins, self.directions, ours, *answer)
        return self.asked

    def _answer(self, unit: Tensor, rows: Tensor, rays: Tensor) -> list[Any]:
        """Density, features, colours and dependence of samples of this rank's rows, as `Asked` has them."""
        field, plain = self.field, self.field.sizes.color_width == 0
        if len(unit) == 0:
            zeros = unit.new_zeros(0, max(3, field.sizes.color_features)) + self.nothing
            if plain:
                return [zeros[:, 0], zeros[:, :0], zeros[:, :3], zeros[:, 0]]
            return [zeros[:, 0], zeros[:, : field.sizes.color_features], None, None]
        if not plain:
            return [*field.of_rows(unit, rows), None, None]
        density, colors, dependence = field.looks(unit, rows, rays, self.directions)
        return [density, colors.new_zeros(len(colors), 0), colors, dependence]

    def _seen(self, density: Tensor, least_light: float) -> Tensor:
        """Which of this rank's samples at least `least_light` of the light gets through to: their places."""
        own, counts = self.own, self.runs.counts(self.ranks.size)
        every = self.runs.in_order(self.ranks.gather_(own.thickness(density)[:, None], counts))
        before = self.runs.through(every[:, 0], len(self.origins))[self.runs.owners == self.ranks.rank]
        within = transmittances(density * own.samples.lengths, own.samples, own.num)
        return (before[own.samples.rays] * within >= least_light).nonzero()[:, 0]

    def picture(
        self, colors: Float[Tensor, "mine 3"], far: float, places: tuple[Tensor, Tensor] | None = None
    ) -> Picture:
        """What whole rays see, without background, the same on all ranks.

        Args:
            colors: (m, 3) of this rank's samples.
            far: depth of rays that hit nothing.
            places: (m,) places along their rays and (m,) lengths of them, if `spread` is wanted.
        """
        asked, own = self.asked, self.own
        values = torch.cat([colors + self.nothing, asked.samples.middles[:, None]], dim=1)
        columns = [own.thickness(asked.density)[:, None], own.sums(asked.density, values)]
        columns.append(torch.bincount(own.samples.rays, minlength=own.num).to(colors)[:, None])
        if places is not None:
            columns.append(own.spreads(asked.density, *places))
        gathered = self.ranks.gather(torch.cat(columns, dim=1), self.runs.counts(self.ranks.size))
        self._every = self.runs.in_order(gathered)
        thickness = self._every[:, 0]
        sums = torch.cat([self._every[:, SUMS], -torch.expm1(-thickness)[:, None]], dim=1)
        rgb, depth, accumulation = self.runs.composite(thickness, sums, len(self.origins)).split([3, 1, 1], dim=1)
        depth = depth / accumulation.clamp_min(1e-6)
        return Picture(rgb, accumulation, torch.where(accumulation > 1e-3, depth, far))

    def spread(self) -> Float[Tensor, ""]:
        """`compositing.spread` of whole rays."""
        return self.runs.spread(self._every[:, 0], self._every[:, MOMENTS], len(self.origins))

    def misplacement(self, away: Float[Tensor, " mine"]) -> Float[Tensor, ""]:
        """`ray_losses.misplacement` of whole rays, from the (m,) of this rank's samples."""
        sums = self.own.sums(self.asked.density, (away + self.nothing)[:, None])
        every = self.runs.in_order(self.ranks.gather(sums, self.runs.counts(self.ranks.size)))
        return self.runs.composite(self._every[:, 0], every, len(self.origins)).sum()

    @property
    def _kept(self) -> Tensor:
        """(R,) how many samples of each run are seen: its first ones."""
        return self._every[:, SEEN].detach()[:, 0].round().long()

    @property
    def num_seen(self) -> int:
        """Samples of all ranks that are seen."""
        return int(self._kept.sum())

    def borders(self, count: int) -> tuple[Float[Tensor, "borders 3"], Int64[Tensor, "2 borders"], Tensor]:
        """`seams.border_points` near the samples that are seen; rows are places in `owners.cells`."""
        run = self.runs.of_sample
        place = torch.arange(len(run), device=run.device) - self.runs.firsts[run]
        seen = (place < self._kept[run]).nonzero()[:, 0]
        samples = Samples(*(values[seen] for values in self.samples))
        positions = samples.positions(self.origins.detach(), self.directions.detach())
        directions = self.directions.detach()[samples.rays]
        return border_points(self.field, positions, directions, count, self.numbers_of_unit)
