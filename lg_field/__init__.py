"""lg-field: Local-Global neural fields that can be cropped."""

from lg_field.editing import crop as crop
from lg_field.editing import extend as extend
from lg_field.editing import merge as merge
from lg_field.editing import prune as prune
from lg_field.files import load as load
from lg_field.files import save as save
from lg_field.partition import PartitionGrid as PartitionGrid
from lg_field.regions import Region as Region

__version__ = "0.1.0"
