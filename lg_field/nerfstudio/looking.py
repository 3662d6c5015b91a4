"""What the training cameras of a run look at."""

from __future__ import annotations

from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from lg_field.nerfstudio.placing import views_of
from lg_field.nerfstudio.runs import Run, training_outputs
from lg_field.radiance.focus import Look
from lg_field.radiance.placement import look_at


def training_cameras(run: Run) -> DataparserOutputs:
    """The run's training images and their cameras, in its scene space.

    Raises:
        FileNotFoundError: the data set is not where it was.
    """
    outputs = training_outputs(run)
    if outputs is None:
        data = run.config.pipeline.datamanager.data
        raise FileNotFoundError(f"{data}, the data set of the run, is not there; --focus and --masks need its cameras")
    return outputs


def look_of_run(run: Run) -> Look:
    """The run's cameras, and what they look at.

    Raises:
        FileNotFoundError: the data set is not where it was.
    """
    views = views_of(training_cameras(run).cameras)
    return Look(views, look_at(views)[0])
