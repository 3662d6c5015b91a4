"""Crop a scene, and compare with the whole.

The crop holds the rows of the cells that the region touches, to the bit. Where the whole scene, with everything else
hidden, and the crop differ, a pixel would show it: none does. Needs the `scene.safetensors` of the first example.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

import lg_field
from lg_field.radiance.render import orbit, render


def main(folder: Path) -> float:
    whole = lg_field.load(folder / "scene.safetensors")
    region = lg_field.Region.sphere((-0.5, 0.0, 0.0), 0.45)
    crop = lg_field.crop(whole, region)
    lg_field.save(crop, folder / "crop.safetensors", overwrite=True)

    camera = list(orbit(whole, whole.description, 4, 240, 240))[1]
    seen = [render(field, whole.description, camera).rgb for field in (whole, crop)]
    whole.region = region  # hides everything else, and keeps it in memory
    whole.occupied[~torch.isin(whole.cells, crop.cells)] = False
    hidden = render(whole, whole.description, camera).rgb
    difference = float((hidden - seen[1]).abs().max())

    Image.fromarray((torch.cat(seen, 1) * 255).byte().numpy()).save(folder / "02_crop_and_compare.png")
    for name in ("scene", "crop"):
        print(f"{name}: {(folder / f'{name}.safetensors').stat().st_size:,} bytes")
    print(f"{whole.num_rows} -> {crop.num_rows} cells, largest difference of a pixel: {difference}")
    return difference


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
