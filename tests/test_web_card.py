"""The page in a real browser: a graphics card that is lost, and cameras and outputs beyond the usual ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, Browser, Page, wait_for
from small_scene import small_scene
from web_page import HEIGHT, WIDTH, box_tool, opened, part, press, same_as_render, seen
from web_page import browser_fixture as browser_fixture
from web_page import host_fixture as host_fixture
from web_page import page_fixture as page_fixture

from lg_field.files import save
from lg_field.radiance.outputs import least_light_of, ray_output
from lg_field.radiance.render import ask_view

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("web") / "scene.safetensors"
    save(small_scene(kept=1.0), path, dtype="int8")
    return path


def test_weights_of_8_bits_are_drawn(page: Page, scene: Path) -> None:
    same_as_render(page, part(scene))


def test_a_lost_card_is_opened_again(browser: Browser, host: str, scene: Path) -> None:
    page = opened(browser, host)
    box_tool(page)
    press(page, "keep-shape")
    page.evaluate("page.screen.orbit.turn(0.3, 0.1); page.screen.change()")
    before, camera = seen(page)
    requests = page.evaluate("page.field.requests")
    for _ in range(2):
        page.evaluate("page.device.destroy()")
        page.wait_text("opened again: view and crop are the same")
        after, same = seen(page)
        assert np.abs(after - before).max() < 1e-3 and torch.equal(same.to_scene, camera.to_scene)
        page.evaluate("page.say('')")
    assert page.evaluate("page.field.requests") == requests
    press(page, "undo")
    page.evaluate("document.querySelector('[data-tool=cells]').click()")
    same_as_render(page, part(scene))
    page.evaluate("navigator.gpu.requestAdapter = async () => null; page.device.destroy()")
    page.wait_text("cannot be opened")
    assert page.evaluate("location.hash").startswith("#w=")
    press(page, "toggle")
    assert page.evaluate("page.screen.canvas.clientHeight") < HEIGHT
    assert page.evaluate("page.screen.canvas.height") == HEIGHT, "of another size it would be empty"
    assert page.errors == []
    page.close()


def test_density_is_the_densest_place_of_each_ray(page: Page, scene: Path) -> None:
    page.evaluate("""(o => { o.value = "density"; o.dispatchEvent(new Event("change")); })
        (document.getElementById("output"))""")
    picture, camera = seen(page)
    field = part(scene)
    origins, directions = (rays.reshape(-1, 3) for rays in camera.rays())
    asked = ask_view(field, field.description, origins, directions, least_light=least_light_of("density"))
    expected = ray_output(asked, field.description, "density")[0].numpy().reshape(HEIGHT, WIDTH)
    assert np.abs(picture[..., 0] - expected).max() < 4 / 255 and expected.max() > 0.1
    assert (picture[..., 0] == picture[..., 2]).all()


def test_a_camera_rolls_and_a_link_carries_it(page: Page, browser: Browser, host: str) -> None:
    before = np.array(page.evaluate("page.screen.orbit.toScene"))
    page.evaluate("document.getElementById('canvas').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", code="KeyZ", key="z")
    wait_for(lambda: page.evaluate("page.screen.orbit.roll > 0.1"), "a camera that rolls")
    page.call("Input.dispatchKeyEvent", type="keyUp", code="KeyZ", key="z")
    after, roll = np.array(page.evaluate("page.screen.orbit.toScene")), page.evaluate("page.screen.orbit.roll")
    assert np.allclose(after[:, 2:], before[:, 2:])
    assert np.allclose(after[:3, 0], np.cos(roll) * before[:3, 0] + np.sin(roll) * before[:3, 1], atol=1e-6)
    taken = "(o => { o.take(o.toScene, 1, 2); return o.toScene; })(page.screen.orbit)"
    assert np.allclose(page.evaluate(taken), after, atol=1e-6)
    page.evaluate("page.screen.orbit.turn(0, 0.2); page.screen.change()")
    press(page, "share")
    shared = page.evaluate("page.screen.orbit.toScene")
    again = browser.open(page.evaluate("location.href"))
    look = "globalThis.page?.screen.orbit.toScene"
    assert np.allclose(wait_for(lambda: again.evaluate(look), "a page", 60.0), shared, atol=1e-5)
    again.close()
