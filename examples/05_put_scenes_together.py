"""Put two scenes together: the second stands where it is put, turned and smaller.

Samples of both are merged along every ray, so that they hide each other. Nothing is trained and no weight is copied;
`lg-field compose` writes the same as a small JSON. Needs the `scene.safetensors` and `crop.safetensors` of the first
two examples.
"""

import sys
from pathlib import Path

from PIL import Image

import lg_field
from lg_field.radiance.arrangement import Arrangement, PartEntry, Place, write_arrangement
from lg_field.radiance.composition import Composition, Part
from lg_field.radiance.render import orbit, render


def main(folder: Path) -> tuple[int, int]:
    place = Place(move=(0.1, 0.35, 0.5), turn=(0.0, 90.0, 0.0), scale=0.6)
    scene, ball = (lg_field.load(folder / f"{name}.safetensors") for name in ("scene", "crop"))
    both = Composition([Part("scene", scene), Part("ball", ball, place)])
    camera = list(orbit(both, both.description, 4, 240, 240))[1]
    picture = render(both, both.description, camera)
    Image.fromarray((picture.rgb * 255).byte().numpy()).save(folder / "05_put_scenes_together.png")

    entries = (PartEntry("scene", "scene.safetensors"), PartEntry("ball", "crop.safetensors", place))
    write_arrangement(Arrangement(entries), folder / "both.json", overwrite=True)
    print(f"{scene.num_rows} and {ball.num_rows} cells; both.json: {(folder / 'both.json').stat().st_size} bytes")
    return both.num_rows, scene.num_rows + ball.num_rows


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
