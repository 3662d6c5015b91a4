"""Links of a page, and its cameras: of no picture, whatever shape the one has that they were taken in."""

import pytest
import torch
from web_node import needs_node, node

from lg_field.radiance.cameras import Camera
from lg_field.web.publish import SiteCamera

READ = """const { readHash, hashOf } = await import(STATIC + "share.js");
const { Orbit } = await import(STATIC + "camera.js");
const orbit = new Orbit([0, 0, 1]);
Object.assign(orbit, readHash(hash, aspect).orbit);
return [orbit.focal, orbit.camera(aspect).focal, hashOf(orbit, { state: {} })];"""


@needs_node
@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_a_link_is_of_no_picture_or_of_the_heights_of_the_one_that_opens_it(aspect: float):
    """`w=` is what it says in every window; `v=` shows the same in a window of the shape it was made in. Shared again
    it is a link of no picture."""
    numbers, narrow = "3,0,0,0,0,0", min(1.0, aspect)
    focal, shown, link = node(READ, hash=f"#w={numbers},1.5", aspect=aspect)
    assert (focal, shown, link) == (1.5, 1.5 * narrow, f"w={numbers},1.5")
    focal, shown, link = node(READ, hash=f"#v={numbers},1.5", aspect=aspect)
    assert (focal, shown, link) == (1.5 / narrow, 1.5, f"w={numbers},{1.5 / narrow:g}")


@pytest.mark.parametrize(("width", "height"), [(60, 96), (96, 60), (50, 50)])
def test_a_camera_of_a_page_makes_the_rays_it_was_made_of(width: int, height: int):
    """A portrait picture shows as much across in a wide window as down."""
    camera = Camera(torch.eye(4, dtype=torch.float64), 1.25, width, height)
    taken = SiteCamera.of(camera, "it")
    again, square = taken.rays(width, height), taken.rays(70, 70)
    assert again.focal == pytest.approx(1.25) and torch.equal(again.to_scene, camera.to_scene)
    across = min(width, height) / height / camera.focal
    assert 1.0 / square.focal == pytest.approx(across), "the shorter side's angle"
    assert taken.rays(90, 70).focal == square.focal == pytest.approx(taken.rays(35, 70).focal * 2)
