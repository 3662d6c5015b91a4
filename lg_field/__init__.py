"""lg-field: Local-Global neural fields that can be cropped."""

from lg_field.files import load as load
from lg_field.files import save as save
from lg_field.space.partition import PartitionGrid as PartitionGrid
from lg_field.space.regions import Region as Region
from lg_field.table.editing import crop as crop
from lg_field.table.editing import extend as extend
from lg_field.table.editing import merge as merge
from lg_field.table.editing import prune as prune

__version__ = "0.1.0"
