"""The page in a real browser, served by `lg-field view --web`: what it shows, crops, downloads and says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from browser import CHROMIUM, Browser, Page, wait_for
from PIL import Image
from small_scene import small_scene
from web_host import hosted
from web_page import (
    BOX,
    HEIGHT,
    WIDTH,
    box_tool,
    caught,
    opened,
    part,
    press,
    same_as_render,
    seen,
    served,
    sharp,
    text,
)
from web_page import browser_fixture as browser_fixture
from web_page import host_fixture as host_fixture
from web_page import page_fixture as page_fixture

from lg_field.files import crop_file, save
from lg_field.space.regions import Region
from lg_field.web.publish import Site, SiteCamera, SitePath, publish

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("web") / "scene.safetensors"
    save(small_scene(kept=1.0), path)
    return path


def test_it_shows_what_render_gives_and_counts_bytes(page: Page, scene: Path) -> None:
    same_as_render(page, part(scene))
    size = f"{scene.stat().st_size / 1e3:.0f} kB"
    assert text(page, "status").startswith(f"{size} fetched in ") and text(page, "status").endswith(f"a file of {size}")
    assert text(page, "title") == "scene"
    assert page.evaluate("page.renderer.table.count") == 64
    rows = page.screenshot().reshape(HEIGHT, WIDTH, 3)
    assert len(np.unique(rows.reshape(-1, 3), axis=0)) > 200


def test_a_box_is_cropped_undone_and_shared(page: Page, browser: Browser, host: str, scene: Path) -> None:
    box_tool(page)
    press(page, "keep-shape")
    cropped = part(scene, region=Region.box(*BOX))
    same_as_render(page, cropped)
    assert text(page, "kept") == f"{cropped.num_rows} of 64 cells kept"
    assert page.evaluate("page.renderer.table.count") == cropped.num_rows < 64
    press(page, "share")
    link = page.evaluate("location.href")
    press(page, "undo")
    page.evaluate("document.querySelector('[data-tool=cells]').click()")
    same_as_render(page, part(scene))
    press(page, "redo")
    assert text(page, "kept") == f"{cropped.num_rows} of 64 cells kept"
    again = opened(browser, link)
    same_as_render(again, cropped)
    assert again.evaluate("page.panel.hash()") == link.split("#")[1]
    again.close()


def test_files_are_those_of_crop(page: Page, scene: Path, tmp_path: Path) -> None:
    box_tool(page)
    press(page, "keep-shape")
    crop_file(scene, tmp_path / "box.safetensors", region=Region.box(*BOX))
    name, data = caught(page, "download")
    assert name == "scene-crop.safetensors"
    assert data == (tmp_path / "box.safetensors").read_bytes()
    name, data = caught(page, "region")
    assert name == "scene-region.json"
    said = json.loads(data)
    assert said["type"] == "box" and said["lower"] == list(BOX[0]) and said["upper"] == list(BOX[1])
    # and with single cells taken away, too
    page.evaluate("page.edit.toggle([...page.edit.state.kept].indexOf(1))")
    press(page, "remove-selected")
    name, data = caught(page, "download")
    (tmp_path / "fewer.safetensors").write_bytes(data)
    same_as_render(page, part(tmp_path / "fewer.safetensors"))
    press(page, "region")
    page.wait_text("A region file says a shape or cells, not both")


def test_cells_are_selected_and_cropped(page: Page, scene: Path) -> None:
    press(page, "remove-selected")
    assert page.evaluate("document.getElementById('remove-selected').disabled")
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        page.mouse(kind, WIDTH / 2, HEIGHT / 2)
    wait_for(lambda: "1 selected" in text(page, "kept"), "a selected cell")
    cell = page.evaluate("page.field.cells[page.edit.state.selected.indexOf(1)]")
    press(page, "grow")
    grown = page.evaluate("page.edit.numSelected")
    assert 4 <= grown <= 7
    press(page, "invert")
    assert page.evaluate("page.edit.numSelected") == 64 - grown
    press(page, "invert")
    press(page, "shrink")
    assert page.evaluate("page.edit.numSelected") >= 1
    press(page, "undo")
    press(page, "remove-selected")
    assert text(page, "kept") == f"{64 - grown} of 64 cells kept"
    kept = page.evaluate("Array.from(page.field.cells.filter((_, row) => page.edit.state.kept[row]))")
    assert cell not in kept
    same_as_render(page, part(scene, cells=kept))
    press(page, "reset")
    same_as_render(page, part(scene))


def test_a_sphere_in_world_units_and_a_removed_one(page: Page, scene: Path) -> None:
    page.evaluate("document.querySelector('[data-tool=sphere]').click()")
    page.evaluate(
        "(u => { u.value = 'world'; u.dispatchEvent(new Event('change')); })(document.getElementById('units'))"
    )
    for k, value in enumerate((1.0, 0.0, 0.0, 1.6)):  # the scene's world: twice as large, shifted by 1
        page.evaluate(f"""(input => {{ input.value = {value}; input.dispatchEvent(new Event("change")); }})
            (document.querySelectorAll("#numbers input")[{k}])""")
    press(page, "remove-shape")
    expected = part(scene, region=Region.sphere((0.0, 0.0, 0.0), 0.8), invert=True)
    same_as_render(page, expected)


def test_mouse_wheel_and_handles(page: Page) -> None:
    before = page.evaluate("page.screen.orbit.eye")
    page.drag((20, 120), (60, 100))
    turned = page.evaluate("page.screen.orbit.eye")
    assert np.linalg.norm(np.subtract(turned, before)) > 0.1
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(before), rel=1e-3)
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=50, y=120, deltaX=0, deltaY=-300)
    wait_for(lambda: page.evaluate("page.screen.orbit.distance") < 0.9 * np.linalg.norm(before), "a nearer camera")
    page.evaluate("document.querySelector('[data-tool=box]').click(); page.home(true); page.screen.change()")
    upper = page.evaluate("page.panel.shape.upper[2]")
    x, y, _ = page.evaluate("page.screen.orbit.project(page.panel.shape.handles[5].at, page.screen.aspect)")
    page.drag((x * WIDTH, y * HEIGHT), (x * WIDTH, y * HEIGHT + 15))
    assert page.evaluate("page.panel.shape.upper[2]") < upper - 0.05


def test_depth_cells_edges_and_a_picture(page: Page) -> None:
    for output in ("cells", "depth"):
        page.evaluate(f"""(o => {{ o.value = "{output}"; o.dispatchEvent(new Event("change")); }})
            (document.getElementById("output"))""")
        sharp(page)
        assert page.evaluate("page.screen.picture.output") == output
    press(page, "wires")
    assert page.evaluate("page.screen.lines.length") > 1000
    name, data = caught(page, "screenshot")
    assert name == "scene.png"
    depths = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert depths.shape == (HEIGHT, WIDTH, 3) and len(np.unique(depths.reshape(-1, 3), axis=0)) > 50


LAYOUT = """(() => { const of = (id) => document.getElementById(id), sides = (r) => [r.left, r.top, r.right, r.bottom];
    const rect = (id) => of(id).hidden ? null : sides(of(id).getBoundingClientRect());
    const { orbit, aspect } = page.screen, { low, high } = page.renderer.bounds;
    const corner = (k) => low.map((v, a) => ((k >> a) & 1 ? high[a] : v));
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => orbit.project(corner(k), aspect));
    return [rect("canvas"), rect("panel"), corners]; })()"""


FOCAL = "(c => page.screen.orbit.focal * Math.min(1, c.clientWidth / c.clientHeight))(page.screen.canvas)"
"""Of a picture as large as the canvas is shown, in its heights."""
KEPT = """(async () => { const { canvas } = page.screen, before = canvas.width;
    const copy = new OffscreenCanvas(40, 40).getContext("2d");
    const colors = () => { copy.drawImage(canvas, 0, 0, 40, 40);
        return new Set(new Uint32Array(copy.getImageData(0, 0, 40, 40).data.buffer)).size; };
    const resized = new Promise((found) => new MutationObserver(() => found(colors()))
        .observe(canvas, { attributes: true, attributeFilter: ["width"] }));
    document.getElementById("toggle").click();
    return [before === canvas.width, await resized, before === canvas.width]; })()"""
"""Open or shut the controls: whether the canvas keeps its size at first, and its colours as soon as it has another."""


def laid_out(page: Page) -> tuple[list[float], list[float] | None]:
    """Left, top, right and bottom of the picture and of the open controls. They do not meet, and the whole scene is in
    the picture, whose middle its own is."""
    fits = "(c => c && c.width === c.clientWidth && c.height === c.clientHeight && !page.screen.dirty)"
    drawn = f"globalThis.page?.screen.picture?.camera.focal === {FOCAL} && {fits}(page.screen.canvas)"
    wait_for(lambda: page.evaluate(drawn), "a picture of this size", 90.0)
    canvas, panel, corners = page.evaluate(LAYOUT)
    places = np.array(corners)[:, :2]
    assert places.min() > 0.0 and places.max() < 1.0
    assert np.allclose((places.min(0) + places.max(0)) / 2, 0.5, atol=0.1)
    if panel is not None:
        assert panel[0] >= canvas[2] or panel[1] >= canvas[3]
    return canvas, panel


@pytest.mark.parametrize(("width", "shut"), [(1400, False), (900, False), (400, True)])
def test_open_controls_leave_the_picture_free(browser: Browser, host: str, width: int, shut: bool) -> None:
    page, height = browser.open("about:blank"), 600
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=host)
    wait_for(lambda: page.evaluate("globalThis.page?.screen.picture && !page.screen.dirty"), "a picture", 90.0)
    press(page, "home")
    whole = [0, 0, width, height]
    canvas, panel = laid_out(page)
    assert (panel is None and canvas == whole) if shut else panel is not None
    for _ in range(2):
        press(page, "toggle")
        shut = not shut
        canvas, panel = laid_out(page)
        assert (panel is None) == shut == (canvas == whole)
        assert (canvas[2] - canvas[0]) * (canvas[3] - canvas[1]) > 0.35 * width * height
    assert page.errors == []
    page.close()


def test_open_controls_leave_the_last_picture_until_the_next(page: Page) -> None:
    """The canvas is never empty, which it is of another size until something is drawn on it."""
    page.call("Emulation.setDeviceMetricsOverride", width=900, height=300, deviceScaleFactor=1, mobile=False)
    for _ in range(2):
        sharp(page)
        first, colors, last = page.evaluate(KEPT)
        assert first and not last and colors > 20


def shown_in(page: Page, width: int, height: int = 160) -> tuple[float, float]:
    """The camera's own focal length, and that of the picture in a window of this size."""
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    same = f"(p => p && p.width * {height} === p.height * {width} && !page.screen.dirty)"
    drawn = f"(p => {same}(p) && [page.screen.orbit.focal, p.camera.focal])(globalThis.page?.screen.picture)"
    return tuple(wait_for(lambda: page.evaluate(drawn), f"a picture of {width} x {height}", 90.0))


def test_a_camera_shows_as_much_across_as_down(browser: Browser, scene: Path, tmp_path: Path) -> None:
    """However the window was when the camera was taken, shared or opened."""
    camera = ((0.0, 0.0, 1.0, 3.0), (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    publish(scene, tmp_path / "site", Site("scene", camera=SiteCamera("right", camera, 1.2)), still=False)
    with hosted(tmp_path / "site") as host:
        for first, other in ((160, 80), (80, 320)):
            page = browser.open("about:blank")
            page.call("Emulation.setDeviceMetricsOverride", width=first, height=160, deviceScaleFactor=1, mobile=False)
            page.call("Page.navigate", url=f"{host}/index.html")
            assert shown_in(page, first) == pytest.approx((1.2, 1.2 * min(1, first / 160)))
            press(page, "share")
            link = page.evaluate("location.href")
            assert link.endswith(",1.2") and "#w=" in link
            assert shown_in(page, other) == pytest.approx((1.2, 1.2 * min(1, other / 160)))
            page.call("Page.navigate", url="about:blank")
            page.call("Page.navigate", url=link)
            assert shown_in(page, other) == pytest.approx((1.2, 1.2 * min(1, other / 160)))
            page.call("Page.navigate", url="about:blank")
            page.call("Page.navigate", url=link.replace("#w=", "#v="))
            narrow = min(1, other / 160)
            assert shown_in(page, other) == pytest.approx((1.2 / narrow, 1.2)), "in heights of the picture"
            assert page.errors == []
            page.close()


def test_damaged_files_and_links_are_one_line(browser: Browser, host: str, scene: Path) -> None:
    page = opened(browser, f"{host}#v=1,2&r=nonsense")
    assert "the link is damaged" in text(page, "message")
    same_as_render(page, part(scene))
    page.close()


def test_cropped_cells_are_not_fetched(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "scene.safetensors"
    field = small_scene(kept=1.0, nodes=13)
    save(field, path)
    region = Region.box((-1.0, -1.0, -1.0), (-0.5, 0.0, 0.0))
    link = f"#r={quote(json.dumps(region.to_dict()))}"
    with served(path) as address:
        page = opened(browser, address + link)
        rows = sum(t.numel() * 4 for t in (field.local, field.features))
        shared = path.stat().st_size - rows
        assert page.evaluate("page.renderer.table.count") == 4
        assert page.evaluate("page.field.bytesFetched") <= shared + 0.12 * rows
        same_as_render(page, part(path, region=region))
        page.close()


SOME = "(p => p && 0 < p.missing().length && p.missing().length < p.field.cells.length)(globalThis.page)"
HELD = f"""(() => {{ const ask = globalThis.fetch, ready = new Promise((go) => (globalThis.goOn = go));
    globalThis.fetch = async (...request) => {{ if ({SOME}) await ready; return ask(...request); }}; }})()"""
"""Once some rows are there, let no request of the page through until `goOn()`."""


def test_what_has_come_is_shown_and_a_lost_network_is_said(browser: Browser, tmp_path: Path) -> None:
    """However fast the network or the machine is: the rest comes no sooner than the test says."""
    path = tmp_path / "scene.safetensors"
    save(small_scene(kept=1.0, nodes=13), path)
    with served(path) as address:
        page = browser.open("about:blank")
        page.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        page.call("Page.addScriptToEvaluateOnNewDocument", source=HELD)
        page.call("Page.navigate", url=address)
        early = f"{SOME} && page.screen.picture ? [page.field.bytesFetched, page.field.bytesTotal] : null"
        here, size = wait_for(lambda: page.evaluate(early), "a picture of some of the rows", 90.0)
        assert 0 < here < size
        assert 0.0 < page.evaluate("document.getElementById('progress').value") < 1.0
        speeds = {"downloadThroughput": -1, "uploadThroughput": -1}
        page.call("Network.emulateNetworkConditions", offline=True, latency=0, **speeds)
        page.evaluate("goOn()")
        page.wait_text("connection", 90.0)
        assert page.evaluate("document.getElementById('message').textContent").count("\n") == 0
        assert page.evaluate("page.screen.picture !== null && !page.screen.stopped")
        page.close()


def test_keys_touch_views_and_a_path(browser: Browser, scene: Path, tmp_path: Path) -> None:
    turned = [[0.0, 0.0, 1.0, 3.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    other = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, -3.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    cameras = [SiteCamera("right", tuple(map(tuple, turned)), 1.2), SiteCamera("front", tuple(map(tuple, other)), 0.9)]
    site = Site("scene", camera=cameras[0], views=tuple(cameras), path=SitePath(0.3, tuple(cameras)))
    publish(scene, tmp_path / "site", site, still=False)
    with hosted(tmp_path / "site") as host:
        page = opened(browser, f"{host}/index.html")
        assert np.allclose(seen(page)[1].to_scene.numpy(), turned, atol=1e-6)
        page.click("front")
        assert np.allclose(seen(page)[1].to_scene.numpy(), other, atol=1e-6)
        assert page.evaluate("page.screen.orbit.focal") == 0.9
        page.evaluate("document.getElementById('canvas').focus()")
        page.call("Input.dispatchKeyEvent", type="keyDown", code="KeyW", key="w")
        wait_for(lambda: page.evaluate("page.screen.orbit.eye[1] > -2.9"), "a camera that flies ahead")
        page.call("Input.dispatchKeyEvent", type="keyUp", code="KeyW", key="w", modifiers=2)
        wait_for(lambda: page.evaluate("page.panel.controls.held.size") == 0, "a key let go with Ctrl held")
        press(page, "home")
        before = page.evaluate("page.screen.orbit.distance")
        for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 40), ("touchEnd", 0)):
            points = [{"x": 100 + s * apart, "y": 90, "id": k} for k, s in enumerate((-1, 1))] if apart else []
            page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        wait_for(lambda: page.evaluate("page.screen.orbit.distance") < 0.7 * before, "a camera nearer by two fingers")
        press(page, "play")
        wait_for(lambda: page.evaluate("page.screen.orbit.focal") == 0.9, "the end of the path")
        assert page.errors == []
        page.close()


def test_without_graphics_there_is_a_line_and_a_picture(scene: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lg_field.web.publish.STILL_SIZE", (96, 60))
    publish(scene, tmp_path / "site", Site("scene"))
    with hosted(tmp_path / "site") as host, Browser() as plain:
        page = plain.open(f"{host}/index.html")
        page.wait_text("WebGPU")
        wait_for(lambda: page.evaluate("document.getElementById('still-picture').naturalWidth"), "the still picture")
        assert page.evaluate("document.querySelector('#still-links a').href").endswith("scene.safetensors")
        assert page.errors == []
        assert page.elsewhere == []


def test_one_file_opens_from_disk(browser: Browser, scene: Path, tmp_path: Path) -> None:
    publish(scene, tmp_path / "scene.html", Site("scene"), still=False, one_file=True)
    page = opened(browser, (tmp_path / "scene.html").as_uri())
    same_as_render(page, part(scene))
    page.close()
