"""The adapter: nerfbaselines' `Method`, trained by `RadianceTrainer`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfbaselines import Method

from lg_field.files import load, save
from lg_field.nerfbaselines.data import Pixels, digest, placed, rays, views_of
from lg_field.nerfbaselines.settings import as_plain, flat, overridden
from lg_field.quality import psnr
from lg_field.radiance.field import RadianceField
from lg_field.radiance.placement import Placement
from lg_field.radiance.render import render_rays
from lg_field.radiance.scene import Scene
from lg_field.radiance.training import RadianceTrainer
from lg_field.radiance.views import far_apart
from lg_field.training.few_photos import coarse_until, few_photos
from lg_field.training.notices import say_without_effect
from lg_field.training.optimizing import fused_adam, set_rates
from lg_field.training.place import first_grid, goes_on

SCENE, RUN, TRAINING = "scene.safetensors", "run.json", "training.pt"
"""Files of a checkpoint: the field, readable by every command; where it is in the data set's units, and the settings;
what only training needs."""
CHUNK = 1 << 14
"""Rays rendered at a time."""
OUTPUTS = ("color", "depth", "accumulation")


class LGFieldMethod(Method):  # type: ignore[misc]
    """Local-Global radiance field."""

    def __init__(
        self,
        *,
        checkpoint: str | None = None,
        train_dataset: Any = None,
        config_overrides: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            checkpoint: folder that `save` wrote; None = a fresh field.
            train_dataset: to train on; None = only render.
            config_overrides: settings by flat name, see `Settings`.

        Raises:
            ValueError: settings that make no sense, or neither checkpoint nor data.
        """
        self.checkpoint, self.loaded_step, self.step = checkpoint, None, 0
        self.cameras: str | None = None
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.state: dict[str, Any] | None = None
        if checkpoint is None and train_dataset is None:
            raise ValueError("lg-field needs a checkpoint or a data set to train on")
        if checkpoint is None:
            self.settings = overridden(config_overrides or {})
            self._begin(train_dataset, placed(train_dataset, self.settings.space))
        else:
            self._load(Path(checkpoint), config_overrides or {})
        if train_dataset is not None:
            self._prepare(train_dataset)

    # -- what it is

    @classmethod
    def get_method_info(cls) -> Any:
        """What data sets it takes."""
        return {
            "method_id": "",  # the registry says it
            "required_features": frozenset(("color",)),
            "supported_camera_models": frozenset(("pinhole", "opencv", "opencv_fisheye", "full_opencv")),
            "supported_outputs": OUTPUTS,
            "can_resume_training": True,
        }

    def get_info(self) -> Any:
        """The same, and this run's settings."""
        return {
            **self.get_method_info(),
            "num_iterations": self.settings.steps,
            "loaded_step": self.loaded_step,
            "loaded_checkpoint": self.checkpoint,
            "batch_size": self.settings.rays,
            "eval_batch_size": CHUNK,
            "hparams": {k: str(v) if isinstance(v, tuple) else v for k, v in flat(self.settings).items()},
        }

    # -- beginnings

    def _begin(self, dataset: Any, placement: Placement) -> None:
        """A fresh field where the data set's scene is, which is said."""
        print(f"The scene: {placement.reason}.")
        torch.manual_seed(self.settings.seed)
        contracted = goes_on(self.settings.space, placement.box is not None)
        grid = first_grid(placement.box, contracted, self.settings.cells)
        self.field = RadianceField(grid, replace(self.settings.sizes, contraction=contracted))
        self.matrix, self.rotation = placement.matrix(), placement.rotation
        self.near, self.close = placement.begin(self.settings.training.near_plane), placement.close
        self.restricted = placement.hull is not None
        if placement.hull is not None:
            self.field.occupancy.restrict_(placement.hull)
        views = views_of(dataset["cameras"])
        origins = views.origins @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        background = np.asarray(dataset["metadata"].get("background_color", (255, 255, 255)))
        self.field.description = Scene(
            tuple(map(tuple, torch.linalg.inv(self.matrix).tolist())),
            background=tuple((background / 255).tolist()),  # type: ignore[arg-type]
            near=max(self.near, 1e-3),
            step=self.field.frame.step_length(self.settings.training.steps_per_scene),
            viewpoints=tuple(map(tuple, far_apart(origins).tolist())),
        )

    def _load(self, folder: Path, overrides: dict[str, Any]) -> None:
        """The field of a checkpoint and where it is. One that does not say how close things are and whether a hull
        bounds them is taken to be of what its training state and its field tell."""
        run = json.loads((folder / RUN).read_text())
        self.settings = overridden({**run["settings"], **overrides})
        self.step = self.loaded_step = run["step"]
        self.matrix, self.rotation = (torch.tensor(run[k], dtype=torch.float64) for k in ("matrix", "rotation"))
        near = run.get("near", 0.0)
        self.near = run.get("begin", max(near, self.settings.training.near_plane))
        field = load(folder / SCENE)
        assert isinstance(field, RadianceField)
        self.field = field.to(self.device)
        if (folder / TRAINING).exists():
            self.state = torch.load(folder / TRAINING, map_location=self.device, weights_only=True)
        scaled = math.inf if self.state is None else self.state["trainer"].get("gradient_scaling", math.inf)
        told = scaled if 0.0 < scaled < self.settings.training.gradient_scaling else math.inf
        self.close = math.inf if (close := run.get("close", told)) is None else close
        self.restricted = run.get("restricted", not field.sizes.contraction)
        self.cameras = run.get("cameras")

    def _prepare(self, dataset: Any) -> None:
        """Everything that training needs beside the field.

        Raises:
            ValueError: it is of a checkpoint of other cameras.
        """
        cameras = digest(dataset["cameras"])
        if self.cameras not in (None, cameras):
            raise ValueError("the checkpoint is of a run on other cameras: go on with its data set, or train anew")
        self.cameras = cameras
        self.pixels = Pixels(dataset, self.rotation, self.matrix)
        self.field = self.field.to(self.device)
        say_without_effect(self.settings.training, self.field.sizes.contraction)
        self.trainer = RadianceTrainer(self.field, self.settings.training)
        self.trainer.close, self.trainer.restricted = self.close, self.restricted
        views = views_of(dataset["cameras"])
        origins = views.origins @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        few = few_photos(origins, views.axes @ self.rotation.T)
        self.trainer.coarse_until, line = coarse_until(self.settings.training, few, self.settings.steps)
        if line is not None and self.state is None:
            print(line)
        self.field.complete_lines_()
        self.optimizer = fused_adam(self.field, self.settings.fields_lr, self.settings.grids_lr)
        if self.state is not None:
            self.optimizer.load_state_dict(self.state["optimizer"])
            self.trainer.load_state(self.state["trainer"])

    # -- training, pictures, files

    def train_iteration(self, step: int) -> dict[str, float]:
        """One step; the loss and the batch's PSNR."""
        settings = self.settings
        set_rates(self.optimizer, settings.lr_factor ** min(1.0, step / settings.steps))
        self.trainer.begin(step, [self.optimizer])
        origins, directions, colors = (v.to(self.device) for v in self.pixels.draw(settings.rays))
        near = torch.full_like(origins[:, 0], self.near)
        losses = self.trainer.losses(self.trainer.render(origins, directions, near), colors)
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step, self.state = step + 1, None
        return {"loss": loss.item(), "psnr": psnr(float(self.trainer.error)), "cells": float(self.field.num_rows)}

    @torch.no_grad()
    def render(self, camera: Any, *, options: Any = None) -> dict[str, np.ndarray]:
        """One camera's picture.

        Returns:
            float32: color (h, w, 3) in [0, 1], depth (h, w) in the data set's units, accumulation (h, w).
        """
        camera, scene = camera.item(), self.field.description
        assert isinstance(scene, Scene)
        width, height = (int(v) for v in camera.image_sizes)
        pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2)
        origins, directions = rays(camera, pixels, self.rotation, self.matrix)
        self.field.eval()
        parts = [
            render_rays(self.field, scene, o.to(self.device), d.to(self.device))
            for o, d in zip(origins.split(CHUNK), directions.split(CHUNK))
        ]
        rgb, seen, depth = (torch.cat(v).cpu() for v in zip(*parts))
        unit = float(torch.linalg.det(self.matrix[:3, :3]).abs()) ** (1 / 3)
        return {
            "color": rgb.view(height, width, 3).numpy(),
            "depth": depth.view(height, width).numpy() / np.float32(unit),
            "accumulation": seen.view(height, width).numpy(),
        }

    def save(self, path: str) -> None:
        """Write a checkpoint: a scene file for every command, and what training needs to go on."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        save(self.field, folder / SCENE, overwrite=True)
        run = {"step": self.step, "begin": self.near, "settings": as_plain(self.settings)}
        run |= {"matrix": self.matrix.tolist(), "rotation": self.rotation.tolist(), "restricted": self.restricted}
        run |= {"close": self.close if self.close < math.inf else None, "cameras": self.cameras}
        (folder / RUN).write_text(json.dumps(run, indent=1))
        state = self.state
        if state is None and hasattr(self, "trainer"):
            state = {"optimizer": self.optimizer.state_dict(), "trainer": self.trainer.state()}
        if state is not None:
            torch.save(state, folder / TRAINING)
