"""The panel "Local-Global" in nerfstudio's viewer: during `ns-train`, and in `ns-viewer`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from lg_field.nerfstudio.datamanager import scene_to_world
from lg_field.nerfstudio.runs import cropped_checkpoint, load_run, rows_of, viewpoints, write_run
from lg_field.radiance.outputs import EXTRAS, WHOLE, extra_output
from lg_field.radiance.render import Asked, Picture
from lg_field.radiance.scene import Scene
from lg_field.space.regions import OrientedBox, Region
from lg_field.viewer.page import keep_pages_quiet, stay_home
from lg_field.viewer.panel import Panel
from lg_field.viewer.subject import SceneSubject

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

    from lg_field.radiance.field import RadianceField

LINKS = (("Github", "https://github.com/nerfstudio-project/nerfstudio"), ("Documentation", "https://docs.nerf.studio"))
"""Of nerfstudio's title bar; a page opens them only when they are clicked."""
CPU_RESOLUTION = 256
"""Side of sharp pictures on a CPU at first: nerfstudio shows nothing between a very coarse and a sharp one."""


class PanelControl(ViewerControl):
    """Attribute of the pipeline by which the viewer finds the panel; outside of a viewer it does nothing."""

    def __init__(self, model: Any) -> None:
        """
        Args:
            model: the `LGModel` whose field is shown and cropped.
        """
        self.model, self._cells = model, model.table.cells
        self.subject: RunSubject | None = None
        self._changed = threading.Event()
        self._copy: RadianceField | None = None
        keep_pages_quiet()

    def _setup(self, viewer: Viewer) -> None:
        """Called by the viewer when it starts."""
        super()._setup(viewer)
        import viser.theme

        # Without its logo; viser's share button stays, for a page that is open already breaks when it goes.
        buttons = tuple(viser.theme.TitlebarButton(text=text, icon=None, href=link) for text, link in LINKS)
        bar = viser.theme.TitlebarConfig(buttons=buttons, image=None)
        stay_home(viewer.viser_server, titlebar_content=bar, brand_color=(255, 211, 105))
        self.subject = RunSubject(viewer)
        self.model.extras = self.outputs
        gui = viewer.viser_server.gui
        tabs = [handle for handle in gui._container_handle_from_id.values() if isinstance(handle, viser.GuiTabHandle)]
        with tabs[0]._parent.add_tab("Local-Global", viser.Icon.CUBE):
            self.panel = Panel(viewer.viser_server, self.subject)
        threading.Thread(target=self._redraw, daemon=True).start()
        if self.subject.shown.cells.device.type == "cpu":
            viewer.control_panel._max_res.value = CPU_RESOLUTION
        viewer.viser_server.on_client_connect(self._start_at_a_camera)

    def _start_at_a_camera(self, client: Any) -> None:
        """Begin where the first training image was taken: nerfstudio's own start is often inside of an object."""
        assert self.subject is not None
        manager: Any = self.viewer.pipeline.datamanager
        matrix = manager.train_dataset.cameras.camera_to_worlds[0].double().cpu()
        eye, forward = matrix[:, 3], -matrix[:, 2]
        ahead = forward * eye.norm().clamp_min(0.1)
        with client.atomic():
            client.camera.position = ((eye + 0.1 * ahead) * self.subject.scale).numpy()  # past the camera's own picture
            client.camera.look_at = ((eye + ahead) * self.subject.scale).numpy()

    def follow(self) -> None:
        """Show the new cells if training has split or pruned them. Called between two training steps."""
        table = self.model.table
        if self.subject is not None and table.cells is not self._cells:
            self._copy = table.selected(torch.arange(table.num_rows))
            self._changed.set()
        self._cells = table.cells

    def _redraw(self) -> None:
        """Redraw cells that training has changed, outside of the training thread."""
        while self._changed.wait():
            self._changed.clear()
            assert self.subject is not None and self._copy is not None
            with self.subject.lock:
                self.subject.start_again(self._copy)
                self.panel.refresh()

    def outputs(self, asked: Asked, shown: Picture) -> dict[str, Tensor]:
        """`EXTRAS` for an open viewer. A seam costs twice the rest, so it is 0 unless it is looked at."""
        control = self.viewer.control_panel
        looked_at = {control.output_render, control.split_output_render}
        self.model.whole_rays = bool(looked_at & set(WHOLE))  # from the next picture on
        result = {}
        for name in EXTRAS:
            if name == "seam" and name not in looked_at:
                result[name] = torch.zeros_like(shown.depth)
            else:
                result[name] = extra_output(asked, name, shown, self.model.step_length)
        return result


class RunSubject(SceneSubject):
    """The scene of a run in nerfstudio's viewer."""

    suffix = ""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer, self.model = viewer, viewer.pipeline.model
        model: Any = self.model
        manager: Any = viewer.pipeline.datamanager
        config, parsed = model.config, manager.train_dataparser_outputs
        scene = Scene(
            scene_to_world=rows_of(scene_to_world(parsed.dataparser_transform, parsed.dataparser_scale)),
            near=float(model.near),
            far=config.far_plane,
            step=model.step_length,
            viewpoints=viewpoints(model.viewpoints),
        )
        from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO

        self.scale = VISER_NERFSTUDIO_SCALE_RATIO
        training = viewer.trainer is not None
        table = model.table.selected(torch.arange(model.table.num_rows)) if training else model.table
        super().__init__(table, scene, viewer.log_filename.parent)

    def refusal(self) -> str | None:
        """Edits wait for the end of training: the optimizers hold the rows."""
        trainer, model = self.viewer.trainer, self.model
        if trainer is not None and trainer.training_state != "completed":
            state = "paused" if trainer.training_state == "paused" else "running"
            return f"training is {state} and its optimizers hold the rows: crop when it has ended, or in ns-viewer"
        if not self.selection.cropped and self.selection.field is not model.table:
            self.start_again(model.table)
        return None

    def start_again(self, table: RadianceField) -> None:
        """Begin anew with a table whose rows have changed; what is selected stays so, unless cells were cut."""
        before = self.selection
        self.start(table)
        if before.field.grid == table.grid:
            self.selection.select(before.selected_cells)

    def show(self) -> None:
        """Give the model the shown rows; a picture under way may still be of the old ones, the next is not."""
        super().show()
        model: Any = self.model
        model.field.table = self.shown
        self.viewer._trigger_rerender()

    def box_region(self, text: str) -> Region:
        """nerfstudio's crop box."""
        control = self.viewer.control_panel
        if not control.crop_viewport:
            raise ValueError("switch on Crop Viewport in the Control tab and set its box first")
        box = control.crop_obb
        rotation = tuple(tuple(row) for row in box.R.double().tolist())
        return OrientedBox(tuple(box.T.tolist()), rotation, tuple(box.S.tolist()))  # type: ignore[arg-type]

    def save(self, path: Path) -> list[Path]:
        """Write a run that every ns-* command works on, with the region's JSON in it."""
        run = load_run(self.path)
        field = run.field()
        source: Any = self.selection.field
        if not (torch.equal(field.cells, source.cells.cpu()) and torch.equal(field.local, source.local.cpu())):
            raise ValueError(f"the last checkpoint in {self.path} is not what is shown here")
        small = field.selected(self.selection.kept.nonzero()[:, 0])
        small.region = self.selection.state.region
        small.drop_unread_lines_()
        checkpoint = cropped_checkpoint(run, small, keep_optimizer=False)
        written = write_run(run, checkpoint, path, overwrite=False, extra={"region.json": self.region_json()})
        return [path / "config.yml", written, path / "region.json"]
