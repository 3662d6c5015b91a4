"""Image files in and out: what they say of orientation, depth, range, alpha and colours is honoured or said."""

from lg_field.signals.pictures.reading import read_image as read_image
from lg_field.signals.pictures.writing import write_image as write_image
