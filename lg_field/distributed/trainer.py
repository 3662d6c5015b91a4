"""Training with rows on many ranks, exactly as if they were on one.

The loop is that of `RadianceTrainer`, run by all ranks with the same random numbers and the same rays:

    trainer = RankTrainer(field, settings, Ranks())  # from here on the field has this rank's rows only
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)

`begin` also gives cells to other ranks where that evens out the work, with their optimizer state. Before an optimizer's
step the shared part's gradients are added up.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.distributed.gradients import sum_gradients
from lg_field.distributed.owners import Owners
from lg_field.distributed.ranks import Ranks
from lg_field.distributed.rays import SharedRays
from lg_field.files.bits import pack_bits, unpack_bits
from lg_field.radiance.compositing import Samples
from lg_field.radiance.distillation import imitation_loss
from lg_field.radiance.field import RadianceField
from lg_field.radiance.gradient_scaling import scaled_near
from lg_field.radiance.random_state import random_state
from lg_field.radiance.render import Asked, Picture
from lg_field.radiance.seams import said_at
from lg_field.radiance.training import RadianceTrainer, TrainingSettings, TrainingView

BALANCE_INTERVAL = 100
"""Steps between looks at how even the work is, beside those after splits and prunings."""
EVEN = 1.05
"""Largest over mean samples of the ranks that is left as it is."""
MEMORY = 0.9
"""Part of a cell's load that still counts after a step."""
BLOCK_BYTES = 1 << 24
"""Of rows that are copied at a time, about."""


class RankTrainer(RadianceTrainer):
    """`RadianceTrainer` of a field whose rows are on the ranks of torch.distributed."""

    at_once = False  # which samples are seen, and so where the seam loss looks, only all ranks together know

    def __init__(
        self,
        field: RadianceField,
        settings: TrainingSettings,
        ranks: Ranks,
        teacher: RadianceField | None = None,
        balance_interval: int = BALANCE_INTERVAL,
    ) -> None:
        """
        Args:
            field: the whole field, the same on all ranks; it keeps this rank's rows.
            settings: what happens when.
            ranks: all of them are here.
            teacher: as in `RadianceTrainer`; whole on every rank.
            balance_interval: steps between looks at how even the work is.

        Raises:
            ValueError: more ranks than cells, or rows that must not be trained.
        """
        super().__init__(field, settings, teacher)
        if field.extending:
            raise ValueError("a scene with frozen cells (extend-scene) is trained by one process: leave out torchrun")
        self.ranks, self.balance_interval = ranks, balance_interval
        self._owners = Owners.balanced(field.grid, field.cells, ranks.size)
        self._load = torch.zeros(field.num_rows, dtype=torch.float64)
        self.rays: SharedRays | None = None
        self._harmonics: Tensor = self._load.sum()
        self._followed: WeakSet[torch.optim.Optimizer] = WeakSet()
        others = (self._owners.rank != ranks.rank).nonzero()[:, 0]
        cells, occupied = field.cells[others], field.occupied[others]
        field.select_(self._owners.of(ranks.rank))
        field.occupancy.know_others(cells, occupied)

    @property
    def owners(self) -> Owners:
        """Who owns which cell."""
        self._owners = self._owners.to(self.field.cells.device)
        return self._owners

    @property
    def load(self) -> Float[Tensor, " cells"]:
        """(P,) samples of each of `owners.cells` in the last steps."""
        self._load = self._load.to(self.field.cells.device)
        return self._load

    # -- before a step

    def begin(self, step: int, optimizers: Iterable[torch.optim.Optimizer] = ()) -> bool:
        """As `RadianceTrainer.begin`; then cells change owners where that evens out the work.

        Raises:
            ValueError: the ranks no longer draw the same random numbers.
        """
        optimizers, before = list(optimizers), self.owners
        for optimizer in optimizers:
            if optimizer not in self._followed:
                self._followed.add(optimizer)
                optimizer.register_step_pre_hook(self._add_up)
        changed = super().begin(step, optimizers)
        at_interval = step > 0 and step % self.balance_interval == 0
        if at_interval:
            states = random_state(self.field.cells.device)
            drawn = [zlib.crc32(states[kind].numpy()) for kind in ("torch", "cuda") if kind in states]
            self.ranks.agree(drawn, "random numbers: something drew some on one of them only, at or before this step")
        due = self.owners is not before or at_interval
        return (due and self.balance(optimizers)) or changed

    def _add_up(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Add up the gradients of an optimizer's shared parameters."""
        field, kinds = self.field, dict[int, str]()
        for names, kind in ((field.row_names, "own"), (tuple(field.kept_lines), "lines")):
            kinds |= {id(getattr(field, name)): kind for name in names}
        found: dict[str, list[Tensor]] = {"shared": [], "lines": [], "own": []}
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            found[kinds.get(id(parameter), "shared")].append(parameter)
        sum_gradients(self.ranks, **found)

    def _split(self, optimizers: list[torch.optim.Optimizer]) -> None:
        super()._split(optimizers)
        self._owners, parents = self.owners.split()
        self._load = self.load[parents] / 8.0
        self._tell_occupied()

    def _prune(self, optimizers: list[torch.optim.Optimizer]) -> None:
        empty = self.field.occupancy.empty_cells(self.owners.cells)
        if bool(empty.any()) and not bool(empty.all()):
            mine = self.owners.of(self.ranks.rank)
            self._keep_rows((~empty[mine]).nonzero()[:, 0], optimizers)
            self._owners, self._load = self.owners.kept(~empty), self.load[~empty]
            self._tell_occupied()

    def _keep_rows(self, rows: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """`CellTable.select_`, which may leave none."""
        names = self.field.row_names
        self.field.transform_rows_({name: lambda old: old[rows].clone() for name in names}, optimizers)

    def update_occupancy(self) -> None:
        """Owners look at their part of the voxels that all ranks drew, and say what they found."""
        super().update_occupancy()
        self._tell_occupied()

    def _tell_occupied(self) -> None:
        """Let every rank know which voxels of the others' cells hold something."""
        owners, grid = self.owners, self.field.occupancy
        packed = self.ranks.gather_(pack_bits(grid.occupied), owners.counts, "occupancy")
        other = (owners.rank[owners.by_rank] != self.ranks.rank).nonzero()[:, 0]
        template = grid.occupied.new_empty(len(other), grid.occupied.shape[1])
        grid.know_others(owners.cells[owners.by_rank][other], unpack_bits(packed[other], template))

    def balance(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> bool:
        """Give rows to other ranks, with their optimizer state, where that evens out the samples, or where one has more
        than it has room for.

        Returns:
            Whether any changed owner.
        """
        old = self.owners
        if not old.overfull and (old.unevenness(self.load) <= EVEN or not bool(self.load.any())):
            return False
        new = Owners.balanced(old.grid, old.cells, old.size, self.load)
        evener = new.unevenness(self.load) < old.unevenness(self.load)
        if bool((new.rank == old.rank).all()) or not (evener or old.overfull):
            return False
        self._move(old, new, optimizers)
        return True

    def _move(self, old: Owners, new: Owners, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Rows go from their old to their new owners; gradients are forgotten, and rows that stay are copied a block at
        a time, so that there is never more beside a tensor's old and new rows than those that leave or come."""
        rank, size = self.ranks.rank, self.ranks.size
        to, whence = new.rank[old.of(rank)], old.rank[new.of(rank)]
        leaving, coming = (_others(of_row, rank) for of_row in (to, whence))
        give, take = (torch.bincount(r, minlength=size).tolist() for r in (to[leaving], whence[coming]))
        stays = [(of_row == rank).nonzero()[:, 0] for of_row in (to, whence)]

        def moved(rows: Tensor) -> Tensor:
            made = rows.new_empty(len(whence), *rows.shape[1:])
            made[coming] = self.ranks.exchange(rows[leaving], give, take)
            lines = max(1, BLOCK_BYTES // max(1, rows[:1].nbytes))
            for before, after in zip(*(some.split(lines) for some in stays)):
                made[after] = rows[before]
            return made

        for name in self.field.row_names:
            getattr(self.field, name).grad = None
        self.field.transform_rows_(dict.fromkeys(self.field.row_names, moved), optimizers)
        self._owners = new
        self._tell_occupied()

    # -- a step

    def _ask(self, origins: Tensor, directions: Tensor, samples: Samples, *how: float) -> Asked:
        """Ask the field where this rank owns it."""
        rays = SharedRays(self.field, self.owners, self.ranks, origins, directions, samples)
        self.rays = rays
        asked = rays.asked = scaled_near(rays.ask(*how), self._scaled_until)
        if torch.is_grad_enabled():
            self._load = MEMORY * self.load + torch.bincount(rays.numbers.clamp_min(0), minlength=len(self.load))
        return asked

    def _picture(self, asked: Asked, colors: Tensor) -> Picture:
        """What whole rays see, without background: every rank composites all runs."""
        assert self.rays is not None
        wanted = torch.is_grad_enabled() and self._wants_spread
        return self.rays.picture(colors, self.settings.far_plane, self._places(asked) if wanted else None)

    def _places(self, asked: Asked) -> tuple[Tensor, Tensor]:
        """Of seen samples: (m,) places along their rays and (m,) lengths, in parts of the longest ray."""
        starts, ends = (self._part_of_longest(t) for t in (asked.samples.starts, asked.samples.ends))
        return 0.5 * (starts + ends), ends - starts

    def _with_terms(self, view: TrainingView, colors: Tensor) -> TrainingView:
        """The view with what its losses need beside the picture: sums of what the ranks add to them."""
        settings, field, asked, rays = self.settings, self.field, view.asked, self.rays
        assert asked is not None and rays is not None
        parts: dict[str, Tensor] = {}
        seen, lengths = max(1, rays.num_seen), asked.samples.lengths
        if field.sizes.contraction:
            anywhere = torch.rand(min(settings.seam_points, rays.num_seen), 3, device=lengths.device)
            known = asked.opacity
            parts["opacity"] = (-torch.expm1(-asked.density * lengths) if known is None else known).sum() / seen
            parts["haze"] = self._haze(field.frame.from_unit(anywhere))
        if settings.harmonics_loss_mult and asked.dependence is not None:
            parts["harmonics"] = asked.dependence.sum() / len(rays.samples.rays)
        if self._imitates:
            parts["imitation"] = self._imitation(asked, colors) / seen
        across = None
        if settings.seam_loss_mult > 0.0:
            parts["seam"], across = self._seam(rays, self.step_length * view.stride)
        if parts:
            totals = self.ranks.total(torch.stack([part + rays.nothing for part in parts.values()]))
            found = dict(zip(parts, totals))
            self._harmonics = found.pop("harmonics", rays.nothing)
            view = view._replace(**found)
        if self._wants_spread:
            view = view._replace(spread=rays.spread())
        return view if view.seam is None or across is None else view._replace(seam=view.seam + across)

    def _dependence(self, view: TrainingView) -> Tensor:
        return self._harmonics

    def _haze(self, points: Tensor) -> Tensor:
        """This rank's part of the mean opacity of a marching step at scene points."""
        here = (self.field.rows_of_unit(self.field.frame.to_unit(points)) >= 0).nonzero()[:, 0]
        if len(here) == 0:
            return points.new_zeros(())
        return self.field.opacity(points[here], self.step_length).sum() / len(points)

    def _imitation(self, asked: Asked, colors: Tensor) -> Tensor:
        """Sum over this rank's samples of the difference from the teacher."""
        samples = asked.samples
        if len(samples.rays) == 0:
            return asked.density.sum()
        assert self.teacher is not None
        self.teacher.to(asked.density.device)
        rays = asked.directions[samples.rays]
        loss = imitation_loss(self.teacher, asked.positions, rays, asked.density, colors, samples.lengths)
        return loss * len(samples.rays)

    def _seam(self, rays: SharedRays, step: float) -> tuple[Tensor, Tensor | None]:
        """`seams.border_disagreement` in two parts: of borders within this rank's cells, to be summed over ranks; and
        of borders between two ranks' cells, which all ranks know (None: there are none)."""
        unit, sides, directions = rays.borders(self.settings.seam_points)
        if unit.shape[0] == 0:
            return rays.nothing, None
        owner = self.owners.rank[sides]
        side, point = (owner == self.ranks.rank).nonzero().unbind(1)
        said = unit.new_zeros(0, 4) + rays.nothing
        if len(point):
            rows = rays.rows_of(sides[side, point])
            said = said_at(self.field, unit[point], rows, directions[point], step)
        crossing = owner[0] != owner[1]
        inside = (~crossing)[point]
        within = said[inside].view(2, -1, 4)
        across = None
        if bool(crossing.any()):
            between = owner[:, crossing].flatten()
            counts = torch.bincount(between, minlength=self.ranks.size).tolist()
            gathered = self.ranks.gather(said[~inside], counts)
            both = torch.empty_like(gathered).index_copy(0, between.argsort(stable=True), gathered).view(2, -1, 4)
            across = (both[0] - both[1]).square().sum() / (4 * len(unit))
        return (within[0] - within[1]).square().sum() / (4 * len(unit)), across

    def losses(
        self, view: TrainingView, image: Float[Tensor, "rays channels"], depth: Float[Tensor, " rays"] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """As `RadianceTrainer.losses`; the same on all ranks, whose gradients add up to theirs."""
        return {name: self.counted(loss) for name, loss in super().losses(view, image, depth).items()}

    def _misplacement(self, asked: Asked, away: Tensor) -> Tensor:
        assert self.rays is not None
        return self.rays.misplacement(away)

    def counted(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """A loss of what all ranks have: it counts once."""
        return self.ranks.once(loss)

    # -- state

    def load_state(self, state: dict[str, Any] | None, expected: bool = True) -> None:
        """As `RadianceTrainer.load_state`, of this rank's rows; then the ranks tell each other which cells they
        have."""
        super().load_state(state, expected)
        self.find_owners()

    def find_owners(self) -> None:
        """Learn from all ranks which cells they have, after rows were loaded.

        Raises:
            ValueError: a cell has two owners.
        """
        field, size = self.field, self.ranks.size
        counts = [int(count) for count in self.ranks.all_of(field.num_rows)]
        cells, order = self.ranks.gather_(field.cells, counts, "cells").sort()
        if bool((cells[1:] == cells[:-1]).any()):
            raise ValueError("two ranks loaded the same cell")
        rank = torch.arange(size, device=cells.device).repeat_interleave(torch.tensor(counts, device=cells.device))
        self._owners = Owners(field.grid, cells, rank[order], size)
        self._load = torch.zeros(len(cells), dtype=torch.float64)
        self._tell_occupied()


def _others(of_row: Tensor, rank: int) -> Tensor:
    """Places in (n,) ranks of those that are not this one, by rank."""
    places = (of_row != rank).nonzero()[:, 0]
    return places[of_row[places].argsort(stable=True)]
