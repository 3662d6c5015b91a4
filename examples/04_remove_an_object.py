"""Remove an object: find the connected pieces of a scene and drop one.

Pieces are made of occupied voxels, finer than cells, so that objects in one cell can be told apart. No weight changes.
Needs the `scene.safetensors` of the first example, and `pip install 'lg-field[mesh]'` for the pieces.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

import lg_field
from lg_field.radiance.carving import pieces_of_field, without_pieces
from lg_field.radiance.render import orbit, render


def main(folder: Path) -> tuple[int, int]:
    field = lg_field.load(folder / "scene.safetensors")
    pieces = pieces_of_field(field)
    print(f"{len(pieces)} pieces, of {', '.join(str(int(n)) for n in pieces.sizes[:5])} voxels")
    drop = torch.zeros(len(pieces), dtype=torch.bool)
    drop[0] = True  # the largest
    rest = without_pieces(field, pieces, drop)
    lg_field.save(rest, folder / "rest.safetensors", overwrite=True)
    camera = list(orbit(field, field.description, 4, 240, 240))[1]
    views = [render(some, field.description, camera).rgb for some in (field, rest)]
    Image.fromarray((torch.cat(views, 1) * 255).byte().numpy()).save(folder / "04_remove_an_object.png")
    print(f"{field.num_rows} -> {rest.num_rows} cells")
    return field.num_rows, rest.num_rows


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
