"""Kinds of signals, one file each: axes, units, files read and written, defaults, fill, figures, how it is shown."""

from lg_field.signals.kinds.audio import Audio
from lg_field.signals.kinds.base import Kind as Kind
from lg_field.signals.kinds.dicom import Dicom
from lg_field.signals.kinds.image import Image
from lg_field.signals.kinds.nifti import Nifti
from lg_field.signals.kinds.nrrd import Nrrd
from lg_field.signals.kinds.shape import Shape
from lg_field.signals.kinds.video import Video
from lg_field.signals.kinds.volume import Volume
from lg_field.signals.registry import KINDS as KINDS
from lg_field.signals.registry import kind_named as kind_named
from lg_field.signals.registry import kind_of_file as kind_of_file
from lg_field.signals.registry import register

register(Image())
register(Audio())
register(Video())
register(Volume())
register(Shape())
register(Nifti())
register(Nrrd())
register(Dicom())
