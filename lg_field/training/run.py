"""A run: a field trained on a capture, its checkpoints, and how well it shows the photos it was not trained on.

run = SceneRun(read_capture(folder), RunSettings("lg-field-tiny"))
run.train()
print(run.scores())
lg_field.save(run.packed(), "scene.safetensors")
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from lg_field.captures import Capture
from lg_field.captures.backdrop import BackgroundMode, before_backdrop
from lg_field.errors import tell
from lg_field.files import atomic_write
from lg_field.quality import psnr
from lg_field.radiance.compositing import image_on
from lg_field.radiance.field import RadianceField
from lg_field.radiance.memory_bound import rays_at_once
from lg_field.radiance.render import render_rays
from lg_field.radiance.scene import Scene
from lg_field.radiance.settings import CoarseFirst
from lg_field.radiance.training import RadianceTrainer
from lg_field.radiance.views import far_apart
from lg_field.training.camera_fit import RAYS_ALONE, fit_alone
from lg_field.training.corrections import Corrections, ExposureMode, PoseMode
from lg_field.training.exposures import DIFFER, exposures_differ
from lg_field.training.few_photos import coarse_until, few_photos
from lg_field.training.masks import MaskMode, meaning, only_masked
from lg_field.training.methods import METHODS
from lg_field.training.optimizing import fused_adam, set_rates
from lg_field.training.photo_set import Draw, PhotoSet, Pixels, Report, small_alphas, small_masks
from lg_field.training.place import Space, find_place, first_grid, goes_on
from lg_field.training.pose_fitting import PoseFitting, shown_by
from lg_field.training.saving import read_checkpoint
from lg_field.training.scores import image_scores

BEFORE_CORRECTIONS = {"exposure": "False", "camera_optimizer": "off"}
"""What settings meant that do not say it."""
WHITE = (1.0, 1.0, 1.0)
"""Behind a scene in pictures."""


@dataclass(frozen=True)
class RunSettings:
    """What can be said of a run; the rest is the method's."""

    method: str = "lg-field"
    """Key of `METHODS`."""
    steps: int = 0
    """Training steps; 0 = the method's."""
    rays: int = 0
    """Rays a step, of which opaque photos have the method's `opaque_share`; 0 = the method's."""
    masks: MaskMode = "auto"
    """What lies outside a mask."""
    background: BackgroundMode = "auto"
    """A plain backdrop behind a thing, in photos without alpha or masks. auto: it is empty; keep: part of the scene."""
    space: Space = "auto"
    """bounded: the box found is all there is; contracted: the scene goes on for ever; auto: by the photos."""
    downscale: float = 1.0
    """Photos are this many times smaller per axis."""
    seed: int = 42
    """Of everything random."""
    camera_optimizer: PoseMode = "auto"
    """Corrections of the training cameras' poses. auto: where a trial shows that they are off."""
    exposure: ExposureMode = "auto"
    """A change of colour for each training photo; the scene has the colours of the average one. auto: where photos
    without alpha, and masks that mean empty space, differ in exposure."""
    coarse_first: CoarseFirst = "auto"
    """Whether grids learn coarse first. auto: of few photos that are far apart."""

    def complete(self) -> RunSettings:
        """With the method's numbers where nothing is said.

        Raises:
            ValueError: settings that make no sense.
        """
        if isinstance(self.exposure, bool):
            return replace(self, exposure="True" if self.exposure else "False").complete()
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name, least in (("steps", 0), ("rays", 0), ("downscale", 1), ("seed", 0)):
            if not least <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name, choices in (
            ("masks", get_args(MaskMode)),
            ("background", get_args(BackgroundMode)),
            ("space", get_args(Space)),
            ("camera_optimizer", get_args(PoseMode)),
            ("exposure", get_args(ExposureMode)),
            ("coarse_first", get_args(CoarseFirst)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        method = METHODS[self.method]
        return replace(self, steps=self.steps or method.steps, rays=self.rays or method.rays)


class Step(NamedTuple):
    """What a training step says of itself."""

    number: int
    """From 0."""
    psnr: float
    """Of its rays, dB."""
    cells: int
    """Kept ones."""


class SceneRun:
    """Trains a field on a capture, step by step."""

    def __init__(
        self,
        capture: Capture,
        settings: RunSettings,
        device: str = "cpu",
        report: Report = lambda done, total: None,
    ) -> None:
        """Read the photos, find where the scene is, and make a fresh field there.

        Args:
            capture: photos and cameras.
            settings: of the run.
            device: where it trains.
            report: told of photos read.

        Raises:
            ValueError: settings that make no sense, broken photos.
        """
        self.settings, self.device = settings.complete(), device
        self.method = METHODS[self.settings.method]
        self.step, self.seconds, self.stopping = 0, 0.0, False
        capture, self.notes = before_backdrop(capture, self.settings.background, "--background")
        """What was found, a line each."""
        self.capture = capture
        self.masks, line = meaning(small_masks(capture.part("train")), self.settings.masks, "--masks")
        self.notes += [line] if line else []
        if self.masks == "empty":
            self.capture, more = only_masked(capture)
            self.notes += more
        photos = self.capture.part("train")
        alphas = small_alphas(photos, capture.alpha, self.masks == "empty")
        self.photos = self._read("train", report)
        self.place = find_place(capture, self.photos.lenses, alphas)
        self.notes.append(f"The scene: {self.place.placement.reason}.")
        self.photos.lenses = self.photos.lenses.moved(self.place.matrix)
        box = self.place.placement.box
        self.contracted = goes_on(self.settings.space, box is not None)
        if not self.contracted:
            self.photos.measure(photos, self.place.points(capture))
            self.notes += (
                ["No box was found: the scene is taken to be what the cameras look at."] if box is None else []
            )
        self.draw = Draw(self.photos, self.method.object_share)
        self.backdrop = self.photos.mean_color() if alphas is None else WHITE
        changes = self.settings.exposure == "True" or self._exposures_differ(alphas is None)
        share = self.method.opaque_share if alphas is None else 1.0
        self.rays = max(1, round(share * self.settings.rays))
        torch.manual_seed(self.settings.seed)
        self.field = self._fresh_field().to(device)
        training = replace(self.method.training, coarse_first=self.settings.coarse_first)
        self.trainer = RadianceTrainer(self.field, training)
        self.trainer.close, self.trainer.place = self.place.placement.close, self.place.matrix
        few = few_photos(self.photos.lenses.poses[..., 3], -self.photos.lenses.poses[..., 2])
        self.trainer.coarse_until, self._waits = coarse_until(training, few, self.settings.steps)
        self.notes += [self._waits] if self._waits else []
        hull = self.place.placement.hull
        if hull is not None and not self.field.sizes.contraction:
            self.trainer.restrict(hull.to(device))
        self.corrections = Corrections(len(self.photos), self.settings.camera_optimizer, changes).to(device)
        self.fitting, self.optimizer = self._fitting(), self._fresh_optimizer()

    def _exposures_differ(self, opaque: bool) -> bool:
        """Whether it is to be found out, and is so, that photos differ in exposure; then that is said."""
        photos = self.capture.part("train")
        if self.settings.exposure != "auto" or not opaque:
            return False
        poses = np.stack([photo.pose for photo in photos])
        differ = exposures_differ([photo.image for photo in photos], poses[:, :3, 3], -poses[:, :3, 2])
        if differ:
            self.notes.append(f"{DIFFER}: each gets a change of colour of its own (--exposure False: none).")
        return differ

    def _read(self, split: str, report: Report = lambda done, total: None) -> PhotoSet:
        scale = 1.0 / self.settings.downscale
        return PhotoSet.read(self.capture.part(split), self.capture.alpha, self.masks, scale, report)

    def _fresh_field(self) -> RadianceField:
        """About `FIRST_CELLS` nearly cubic cells where the scene is."""
        box = self.place.placement.box
        grid = first_grid(None if box is None else box.float(), self.contracted)
        return RadianceField(grid, replace(self.method.sizes, contraction=self.contracted))

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        """Adam over networks, feature grids and corrections."""
        return fused_adam(self.field, self.method.fields_lr, self.method.grids_lr, self.corrections.groups())

    # -- training

    @property
    def near(self) -> float:
        """Distance at which rays start, scene units."""
        return self.place.placement.begin(self.method.training.near_plane)

    def train(self, on_step: Callable[[Step], None] = lambda step: None) -> None:
        """Train to the end, or until `stopping` is set."""
        while self.step < self.settings.steps and not self.stopping:
            begin = time.perf_counter()
            said = self.train_step()
            self.seconds += time.perf_counter() - begin
            on_step(said)

    def train_step(self) -> Step:
        """One step on freshly drawn pixels."""
        number = self.step
        self.begin(number)
        said = self.learn(self.draw(self.rays))
        self.step = number + 1
        return said

    def begin(self, step: int) -> None:
        """What happens before a step: learning rates, rows, empty space, cameras."""
        set_rates(self.optimizer, self.method.rate(step, self.settings.steps))
        self.trainer.begin(step, [self.optimizer])
        if self.corrections.camera_optimizer is not None:
            self.fitting(step, self.corrections.camera_optimizer)

    def _fitting(self) -> PoseFitting:
        """What improves poses, where they are corrected."""
        background = torch.tensor(self.backdrop, device=self.device)
        show = shown_by(self.trainer, self.near, background, self.corrections.exposure)
        look = partial(self.photos.seen, background=self.backdrop)
        return PoseFitting(look, show, self.corrections.mode, tell, lambda: self.trainer.coarse_until)

    def learn(self, pixels: Pixels) -> Step:
        """Make the losses of some training pixels smaller."""
        origins, directions = (v.to(self.device) for v in self.photos.rays(pixels))
        photos = pixels.photos.to(self.device)
        origins, directions = self.corrections.rays(origins, directions, photos)
        near = torch.full_like(origins[:, 0], self.near)
        view = self.trainer.render(origins, directions, near, develop=self.corrections.develop(photos))
        depth = self.photos.depth(pixels)
        depth = None if depth is None else depth.to(self.device)
        losses = self.trainer.losses(view, self.photos.colors(pixels).to(self.device), depth)
        losses |= self.corrections.losses()
        loss: Tensor = sum(losses.values())  # type: ignore[assignment]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return Step(self.step, psnr(float(self.trainer.error)), self.field.num_rows)

    # -- what comes out

    def scene(self) -> Scene:
        """What the field is of."""
        lenses = self.photos.lenses
        camera = torch.eye(4, dtype=torch.float64)
        camera[:3] = lenses.poses[0]
        places = far_apart(lenses.poses[..., 3].float()).tolist()
        return Scene(
            scene_to_world=tuple(map(tuple, self.place.to_world.tolist())),
            background=WHITE,
            near=self.near,
            far=self.method.training.far_plane,
            step=self.field.frame.step_length(self.method.training.steps_per_scene),
            camera=tuple(map(tuple, camera.tolist())),
            focal=float(lenses.focals[0, 1] / lenses.sizes[0, 1]),
            viewpoints=tuple((x, y, z) for x, y, z in dict.fromkeys(map(tuple, places))),
        )

    def packed(self, facts: dict[str, Any] | None = None) -> RadianceField:
        """A copy of the field, on the CPU, with all that viewing, rendering and meshing need, ready for `save`.

        Args:
            facts: more for its history.
        """
        field = self.field.selected(torch.arange(self.field.num_rows, device=self.device)).cpu().eval()
        field.description = self.scene()
        field.history = {"steps": self.step, "method": self.settings.method, "seconds": round(self.seconds, 1)}
        field.history |= facts or {}
        field.drop_unread_lines_()
        return field

    def scores(self, count: int | None = None, report: Report = lambda done, total: None) -> dict[str, float]:
        """Means over test photos of `image_scores`, on white, or, of photos that show all there is, their mean colour,
        and, where poses are improved, of `psnr_camera_fitted`, from where each photo says that its camera is.

        Args:
            count: so many photos, evenly spaced; None = all.
            report: told after each photo.
        """
        photos = self.capture.part("test")
        chosen = range(len(photos)) if count is None else spaced(len(photos), count)
        field, scene, found = self.packed().to(self.device), replace(self.scene(), background=self.backdrop), []
        for done, number in enumerate(chosen):
            one = PhotoSet.read([photos[number]], self.capture.alpha, self.masks, 1.0 / self.settings.downscale)
            one.lenses = one.lenses.moved(self.place.matrix)
            truth = one.images[0].float() / 255.0
            height, width, channels = truth.shape
            rgb = self._shown(field, scene, one).view(height, width, 3)
            alpha = truth[..., 3] if channels == 4 else None
            counted = None if one.counted is None else one.counted[0]
            image = image_on(truth, torch.tensor(self.backdrop))
            found.append(image_scores(rgb, image, alpha, counted))
            if self.corrections.poses is not None:
                rgb = self._shown(field, scene, self._fitted(one)).view(height, width, 3)
                found[-1]["psnr_camera_fitted"] = image_scores(rgb, image, alpha, counted)["psnr"]
            report(done + 1, len(chosen))
        names = dict.fromkeys(name for scores in found for name in scores)
        return {name: sum(s[name] for s in found if name in s) / sum(name in s for s in found) for name in names}

    def _fitted(self, photos: PhotoSet) -> PhotoSet:
        """A photo with its camera where the photo says that it is."""
        one, background = torch.zeros(1, dtype=torch.int64), torch.tensor(self.backdrop, device=self.device)
        show = shown_by(self.trainer, self.near, background)(one)
        generator = torch.Generator().manual_seed(0)
        look = partial(photos.seen, one, RAYS_ALONE, self.backdrop, generator)
        return replace(photos, lenses=photos.lenses.turned(fit_alone(show, look)))

    @torch.no_grad()
    def _shown(self, field: RadianceField, scene: Scene, photos: PhotoSet) -> Tensor:
        """(pixels, 3) colours of the first photo's pixels as the field shows them."""
        origins, directions = photos.rays(photos.all_of(0))
        size, parts = rays_at_once(field, scene.step), []
        for some, ahead in zip(origins.split(size), directions.split(size)):
            parts.append(render_rays(field, scene, some.to(self.device), ahead.to(self.device)).rgb.cpu())
        return torch.cat(parts)

    # -- checkpoints

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all: all that the next step depends on."""
        state = {
            "settings": vars(self.settings),
            "photos": self._names(),
            "step": self.step,
            "seconds": self.seconds,
            "field": self.field.state_dict(),
            "trainer": self.trainer.state(),
            "optimizer": self.optimizer.state_dict(),
            "corrections": self.corrections.state_dict(),
        }
        with atomic_write(path, overwrite=True) as temporary:
            torch.save(state, temporary)

    def _names(self) -> list[str]:
        """Of the training photos."""
        return [photo.image.name for photo in self.capture.part("train")]

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; training then goes on as if it had not stopped, to the bit on a CPU.

        Raises:
            ValueError: no checkpoint, or one of other settings.
        """
        state = read_checkpoint(path)
        try:
            before = RunSettings(**BEFORE_CORRECTIONS | state["settings"])
        except TypeError as error:
            raise ValueError(f"{path} is of another version of lg-field: {error}") from error
        check_same(before, self.settings, path)
        if state["photos"] != self._names():
            raise ValueError(
                f"{path} is of a run on {len(state['photos'])} training photos, these are {len(self._names())} or have "
                "other names: go on with the same photos, or give another folder"
            )
        self.field.load_state_dict(state["field"])
        self.field.to(self.device)
        self.corrections.load_state_dict(state.get("corrections", {}))
        self.optimizer = self._fresh_optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        self.trainer.load_state(state["trainer"])
        self.notes = [note for note in self.notes if note != self._waits]
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


def spaced(count: int, wanted: int) -> list[int]:
    """So many numbers below `count`, evenly spaced; all where there are no more."""
    return [int((k + 0.5) * count / wanted) for k in range(wanted)] if wanted < count else list(range(count))


def check_same(before: RunSettings, now: RunSettings, path: Path) -> None:
    """Raise ValueError if a run cannot go on with other settings; it may take more or fewer steps."""
    odd = [name for name, value in vars(before).items() if name != "steps" and value != getattr(now, name)]
    if odd:
        odd = odd if before.method == now.method else ["method"]  # others may follow from it
        had = ", ".join(f"--{name.replace('_', '-')} {getattr(before, name)}" for name in odd)
        raise ValueError(f"{path} is of a run with {had}: go on with the same, or give another folder")
