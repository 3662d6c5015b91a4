"""From a click to an object: the voxels that can be reached from it through what is solid enough."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.radiance.components import Pieces, lattice_of, shown_voxels, voxel_set
from lg_field.radiance.field import RadianceField
from lg_field.radiance.solid import voxel_opacity, with_skin
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import VoxelSet


class Flood:
    """What a click of a scene's voxels fills, as solid as a slider says."""

    def __init__(self, field: RadianceField, place: Float[Tensor, " 3"]) -> None:
        """
        Args:
            field: as it is shown.
            place: (3,) scene units: where the click met something.
        """
        self.grid = field.occupancy
        self.place = self.grid.frame.to_places(place.double().cpu()[None])[0] * self.grid.per_axis
        every = Pieces.of(shown_voxels(self.grid, field.region))
        self.within = every.voxels([every.nearest(self.place)[0]])
        self.opacity = voxel_opacity(field, self.within)
        self.voxels = self.within

    @property
    def lattice(self) -> PartitionGrid:
        """The voxels of the whole domain, as cells."""
        return lattice_of(self.grid)

    @property
    def region(self) -> VoxelSet:
        """What is filled.

        Raises:
            ValueError: nothing is.
        """
        return voxel_set(self.grid, self.voxels)

    def fill(self, least: float) -> Bool[Tensor, "nx ny nz"]:
        """Fill what can be reached from the click.

        Args:
            least: opacity of a voxel (see `voxel_opacity`) from which on it connects, 0..1; 0 = all do.

        Returns:
            Voxels on the lattice, with what is shown right beside them.

        Raises:
            ValueError: nothing that connects to the click at all is so solid.
        """
        pieces = Pieces.of(self.within & (self.opacity >= least))
        if not len(pieces):
            raise ValueError(f"nothing there is as solid as {least:g}: a lower Solid fills it")
        number, _ = pieces.nearest(self.place)
        self.voxels = with_skin(pieces, [number], self.within)
        return self.voxels
