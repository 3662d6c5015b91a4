"""Regions: the part of space an edit keeps. What a user asks for, exactly; cells are only its hull."""

from lg_field.space.regions.base import BoxMap as BoxMap
from lg_field.space.regions.base import Region as Region
from lg_field.space.regions.base import both as both
from lg_field.space.regions.base import corners as corners
from lg_field.space.regions.base import region_from_dict as region_from_dict
from lg_field.space.regions.base import transformed as transformed
from lg_field.space.regions.boxes import Box as Box
from lg_field.space.regions.boxes import OrientedBox as OrientedBox
from lg_field.space.regions.combinations import Complement as Complement
from lg_field.space.regions.combinations import Intersection as Intersection
from lg_field.space.regions.combinations import Scaled as Scaled
from lg_field.space.regions.combinations import Union as Union
from lg_field.space.regions.half_space import HalfSpace as HalfSpace
from lg_field.space.regions.similarity import Similarity as Similarity
from lg_field.space.regions.sphere import Sphere as Sphere
from lg_field.space.regions.voxels import VoxelSet as VoxelSet
