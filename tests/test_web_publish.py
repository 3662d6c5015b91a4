"""`lg-field publish` and `lg-field view --web`: what is written and served, and what is refused."""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from commands import BIN, lg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_scene import small_scene
from web_node import STATIC

from lg_field.cli.options import NO_REGION
from lg_field.cli.publish import part_file
from lg_field.errors import Notice
from lg_field.files import save
from lg_field.files.ranges import Ranges, open_ranges
from lg_field.radiance.edits import was_cropped
from lg_field.web.publish import IMPORT, MODULES, PAGE, STILL, Site, contents, filled, publish
from lg_field.web.server import PageServer, part_of

TITLE = "A <b>bold</b> </script> title"
EYE = np.eye(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scene and camera paths."""
    made = tmp_path_factory.mktemp("scene")
    save(small_scene(), made / "scene.safetensors")
    for name, count in (("front", 1), ("walk", 3)):
        frames = [{"camera_to_world": (EYE * (k + 1)).flatten().tolist(), "fov": 90.0} for k in range(count)]
        (made / f"{name}.json").write_text(json.dumps({"camera_path": frames, "seconds": 2.5}))
    return made


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    """Still pictures are quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lg_field.web.publish.STILL_SIZE", (96, 60))
        yield


def site_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="site">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    """A published folder."""
    flags = ("--title", TITLE, "--description", "two words", "--camera", "front.json", "--path", "walk.json")
    views = ("--view", "front.json", "walk.json")
    assert "view --web" in lg("publish", "scene.safetensors", "-o", "site", *flags, *views, cwd=folder)
    return folder / "site"


def test_a_folder_holds_the_page_the_scene_and_a_picture(folder: Path, site: Path) -> None:
    names = {path.name for path in site.iterdir()}
    modules = {path.name for path in STATIC.iterdir() if path.suffix in (".js", ".wgsl", ".css", ".html")}
    assert names == modules | {"scene.safetensors", STILL}
    assert (site / "scene.safetensors").read_bytes() == (folder / "scene.safetensors").read_bytes()
    with Image.open(site / STILL) as still:
        assert still.size == (96, 60) and still.convert("L").getextrema()[0] < 200
    for name in modules - {PAGE}:
        assert (site / name).read_bytes() == (STATIC / name).read_bytes()


def test_the_page_says_what_the_flags_say(folder: Path, site: Path) -> None:
    page = (site / PAGE).read_text()
    data = site_data(page)
    assert "<title>A &lt;b&gt;bold&lt;/b&gt; &lt;/script&gt; title</title>" in page
    assert data["title"] == TITLE and data["description"] == "two words" and data["still"] == STILL
    assert data["field"] == "scene.safetensors" and data["bytes"] == (site / data["field"]).stat().st_size
    assert data["camera"] == {"name": "front", "camera": EYE.tolist(), "focal": pytest.approx(0.5)}
    assert [view["name"] for view in data["views"]] == ["front", "walk 1", "walk 2", "walk 3"]
    assert data["path"]["seconds"] == 2.5 and len(data["path"]["cameras"]) == 3


def test_the_page_asks_at_once_for_what_it_needs(folder: Path, site: Path) -> None:
    page = (site / PAGE).read_text()
    asked = set(re.findall(r'<link rel="(?:module)?preload"[^>]* href="([^"]+)"', page))
    assert asked == {path.name for path in STATIC.iterdir() if path.suffix in (".js", ".wgsl")} - {"types.d.ts"}
    size = (site / "scene.safetensors").stat().st_size
    first, *others = site_data(page)["ranges"]
    assert first[0] == 0 and all(a[1] < b[0] for a, b in zip([first, *others], others))
    assert sum(end - start for start, end in (first, *others)) <= size == site_data(page)["bytes"]


def test_a_page_starts_where_the_scene_says_or_where_all_is_seen(folder: Path) -> None:
    data = contents(str(folder / "scene.safetensors"), Site("x"), still=False).data
    field = small_scene()
    assert data["camera"]["camera"] == field.description.camera and data["still"] is None  # type: ignore[union-attr]
    lg("crop", "scene.safetensors", "-o", "part.safetensors", "--box", -1, -1, -1, 0, 0, 0, cwd=folder)
    part = contents(str(folder / "part.safetensors"), Site("x"), still=False).data["camera"]
    eye, middle = np.array(part["camera"])[:3, 3], np.full(3, -0.5)
    ahead = -np.array(part["camera"])[:3, 2]
    assert np.dot(ahead, (middle - eye) / np.linalg.norm(middle - eye)) > 0.99


def test_a_part_that_carries_no_region_starts_where_all_of_it_is_seen(folder: Path) -> None:
    whole = small_scene().description.camera  # type: ignore[union-attr]

    def start(name: str, **more: bool) -> Any:
        return contents(str(folder / name), Site("x"), still=False, **more).data["camera"]["camera"]

    lg("crop", "scene.safetensors", "-o", "piece.safetensors", "--component", "largest", cwd=folder)
    lg("crop", "scene.safetensors", "-o", "cells.safetensors", "--cells", "0-9", cwd=folder)
    lg("clean", "scene.safetensors", "-o", "clean.safetensors", "--min-share", 0, cwd=folder)
    assert start("piece.safetensors") != whole and start("cells.safetensors", part=True) != whole
    assert start("clean.safetensors") == whole and start("cells.safetensors") == whole
    for history in ({"edits": 3}, {"edits": [1, {"edit": "clean"}]}, {}):
        assert not was_cropped(history)


def test_nothing_is_replaced_unasked(folder: Path, site: Path) -> None:
    before = (site / PAGE).read_bytes()
    assert "--overwrite" in lg("publish", "scene.safetensors", "-o", "site", cwd=folder, fails=True)
    assert (site / PAGE).read_bytes() == before
    (folder / "other").mkdir()
    lg("publish", "scene.safetensors", "-o", "other", "--no-still", cwd=folder)
    (folder / "other" / "notes.txt").write_text("mine")
    lg("publish", "scene.safetensors", "-o", "other", "--no-still", "--overwrite", "--title", "new", cwd=folder)
    assert (folder / "other" / "notes.txt").read_text() == "mine"
    assert site_data((folder / "other" / PAGE).read_text())["title"] == "new"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("missing.safetensors", "-o", "new"), "is not there"),
        (("scene.safetensors", "-o", "new", "--one-file"), ".html"),
        (("scene.safetensors", "-o", "new.html"), "--one-file"),
        (("scene.safetensors", "-o", "."), "own folder"),
        (("scene.safetensors", "-o", "front.json"), "another folder"),
        (("scene.safetensors", "-o", "new", "--camera", "scene.safetensors"), "camera path"),
        (("front.json", "-o", "new"), "field file"),
    ],
)
def test_what_makes_no_sense_ends_in_a_line(flags: tuple[str, ...], words: str, folder: Path) -> None:
    said = lg("publish", *flags, cwd=folder, fails=True)
    assert words in said and len(said.strip().splitlines()) == 1
    assert not (folder / "new").exists() and not (folder / "new.html").exists()


def test_an_archive_is_unpacked_and_a_composition_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small_scene(), folder / "small.safetensors", dtype="int8")
    lg("compress", "small.safetensors", "-o", "small.lga", cwd=folder)
    with pytest.warns(Notice, match="is an archive, which pages do not read"):
        publish(folder / "small.lga", folder / "unpacked", Site("x"), still=False)
    data = (folder / "small.safetensors").read_bytes()
    assert (folder / "unpacked" / "small.safetensors").read_bytes() == data
    said = site_data((folder / "unpacked" / PAGE).read_text())
    assert (said["field"], said["bytes"]) == ("small.safetensors", len(data))
    monkeypatch.setattr("lg_field.web.publish.LARGE_FILE", len(data) - 1)
    assert (folder / "small.lga").stat().st_size < len(data)
    with pytest.warns(Notice, match=f"small.safetensors has {len(data):,} bytes: as one file it is read whole"):
        publish(folder / "small.lga", folder / "small.html", Site("x"), still=False, one_file=True)
    (folder / "two.scene.json").write_text("{}")
    for command in (("publish", "two.scene.json", "-o", "new"), ("view", "two.scene.json", "--web")):
        assert "composition" in lg(*command, cwd=folder, fails=True)


def test_a_path_without_seconds_has_24_cameras_a_second(folder: Path) -> None:
    from lg_field.cli.publish import path_of

    frames = [{"camera_to_world": EYE.flatten().tolist(), "fov": 60.0}] * 12
    (folder / "plain.json").write_text(json.dumps({"camera_path": frames}))
    assert path_of(folder / "plain.json").seconds == 0.5
    (folder / "odd.json").write_text(json.dumps({"camera_path": frames, "seconds": -1}))
    with pytest.raises(ValueError, match="positive number of seconds"):
        path_of(folder / "odd.json")


@given(st.text(), st.text())
def test_no_text_leaves_its_place_in_the_page(title: str, description: str) -> None:
    page = (STATIC / PAGE).read_text()
    text = filled(page, {"title": title, "description": description})
    assert site_data(text) == {"title": title, "description": description}
    assert text.count("<script") == page.count("<script") and text.count("</title>") == 1


def one_file(folder: Path) -> str:
    path = folder / "page.html"
    if not path.exists():
        lg("publish", "scene.safetensors", "-o", "page.html", "--one-file", "--title", "One", cwd=folder)
    return path.read_text()


def test_one_file_holds_everything(folder: Path) -> None:
    page = one_file(folder)
    imports = json.loads(re.search(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)[1])["imports"]  # type: ignore[index]
    assert set(imports) == {MODULES + path.name for path in STATIC.glob("*.js")}
    for code in (base64.b64decode(address.split(",")[1]).decode() for address in imports.values()):
        assert not IMPORT.search(code)
    held = dict(re.findall(r'data-file="([^"]+)"[^>]*>([^<]*)<', page))
    assert set(held) == {path.name for path in STATIC.glob("*.wgsl")} | {"scene.safetensors", STILL}
    assert base64.b64decode(held["scene.safetensors"]) == (folder / "scene.safetensors").read_bytes()
    assert not re.search(r'(src|href)="(?!data:)', page)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which scripts/setup.sh installs")
def test_one_file_opens_from_disk_and_asks_nobody(folder: Path) -> None:
    one_file(folder)
    code = f"""(async () => {{
        const {{ fieldSource, resourceText, resourceUrl, site }} = await import("{MODULES}loader.js");
        const {{ openField }} = await import("{MODULES}field.js");
        const field = await openField(await fieldSource()), text = await resourceText("march.wgsl");
        await field.rows(field.cells.keys(), () => {{}});
        return [site().title, field.numRows, text.includes("fn "), resourceUrl("{STILL}").slice(0, 23)]; }})()"""
    with Browser() as browser:
        page = browser.open((folder / "page.html").as_uri())
        page.wait_text("One")
        assert page.evaluate(code) == ["One", small_scene().num_rows, True, "data:image/jpeg;base64,"]
        assert [url for url in page.elsewhere if not url.startswith("file://")] == []


@pytest.fixture
def server() -> Iterator[PageServer]:
    """A server of two files."""
    with PageServer({"index.html": b"<p>page</p>", "data.bin": bytes(range(256)) * 10}, 0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def ask(server: PageServer, name: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request(method, name, headers=headers)
    reply = connection.getresponse()
    found = reply.status, dict(reply.getheaders()), reply.read()
    connection.close()
    return found


def test_files_are_served_by_ranges(server: PageServer) -> None:
    data = bytes(range(256)) * 10
    assert ask(server, "/")[2] == b"<p>page</p>"
    status, headers, body = ask(server, "/data.bin", Range="bytes=100-299")
    assert (status, body, headers["Content-Range"]) == (206, data[100:300], "bytes 100-299/2560")
    assert ask(server, "/data.bin", Range="bytes=2500-")[2] == data[2500:]
    assert ask(server, "/data.bin", Range="bytes=-7")[2] == data[-7:]
    status, headers, body = ask(server, "/data.bin", Range="bytes=2560-")
    assert (status, body, headers["Content-Range"]) == (416, b"", "bytes */2560")
    status, headers, body = ask(server, "/data.bin", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "2560")


def test_only_those_files_and_only_for_this_machine(server: PageServer) -> None:
    for name in ("/other", "/../setup.py", "/%2e%2e/setup.py", "//etc/passwd", "/data.bin/"):
        assert ask(server, name)[0] == 404
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/", Host=f"localhost:{server.server_address[1]}")[0] == 200


def test_a_taken_port_is_passed_over(server: PageServer) -> None:
    with PageServer({}, server.server_address[1]) as other:
        assert other.server_address[1] > server.server_address[1]
    with pytest.raises(OSError, match="is free"):
        PageServer({}, 65536)


@given(st.one_of(st.none(), st.text(), st.from_regex(r"bytes=\d{0,5}-\d{0,5}", fullmatch=True)), st.integers(0, 9999))
def test_a_part_is_within_the_file(asked: str | None, size: int) -> None:
    part = part_of(asked, size)
    if part is not None:
        assert part.first >= 0 and part.last < max(size, 1) and part.count >= 0
        assert not part.whole or part.count == size


def test_view_web_serves_a_scene_here(folder: Path) -> None:
    command = [str(BIN / "lg-field"), "view", "scene.safetensors", "--web", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with urllib.request.urlopen(url, timeout=60) as reply:
                assert site_data(reply.read().decode())["field"] == "scene.safetensors"
            request = urllib.request.Request(url + "scene.safetensors", headers={"Range": "bytes=0-7"})
            with urllib.request.urlopen(request, timeout=60) as reply:
                assert reply.read() == (folder / "scene.safetensors").read_bytes()[:8]
        finally:
            process.terminate()


def test_view_web_shows_a_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lg("crop", "scene.safetensors", "-o", "ball.safetensors", "--sphere", 0, 0, 0, 0.5, cwd=folder)
    with part_file(str(folder / "scene.safetensors"), replace(NO_REGION, sphere=(0.0, 0.0, 0.0, 0.5))) as part:
        assert Path(part).read_bytes() == (folder / "ball.safetensors").read_bytes()
        assert Path(part).name == "scene.safetensors"
        assert str(Path(part).parent) not in capsys.readouterr().out.replace("\n", "")
    assert "no --device" in lg("view", "scene.safetensors", "--web", "--device", "cpu", cwd=folder, fails=True)
    assert "no --memory" in lg("view", "scene.safetensors", "--web", "--memory", 8, cwd=folder, fails=True)


def test_a_far_scene_is_served_by_the_ranges_that_are_asked_for(folder: Path) -> None:
    fsspec, data = pytest.importorskip("fsspec"), (folder / "scene.safetensors").read_bytes()
    with fsspec.open("memory://far/scene.safetensors", "wb") as file:
        file.write(data)
    page = contents("memory://far/scene.safetensors", Site("far"), still=False)
    assert page.data["field"] == "scene.safetensors" and page.data["bytes"] == len(data)
    with open_ranges("memory://far/scene.safetensors") as far, PageServer({"scene.safetensors": far}, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        before = far.bytes_read
        status, headers, body = ask(server, "/scene.safetensors", Range="bytes=5000-5999")
        assert (status, body, far.bytes_read - before) == (206, data[5000:6000], 1000)
        assert headers["Content-Range"] == f"bytes 5000-5999/{len(data)}"
        assert ask(server, "/scene.safetensors")[2] == data
        server.shutdown()


class Broken(Ranges):
    """A file far away of which the second piece fails, or ends too early."""

    size = (1 << 23) + 100

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def read(self, start: int, count: int) -> bytes:
        if start and self.error is not None:
            raise self.error
        return bytes(count - 10 if start else count)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "became shorter"),
        (OSError("gone"), "OSError: gone"),
        (ConnectionResetError("cut"), "ConnectionResetError: cut"),
        (RuntimeError("payload"), "RuntimeError: payload"),
    ],
)
def test_a_far_read_that_fails_drops_the_connection_and_says_so(error: Exception | None, words: str) -> None:
    with PageServer({"far.safetensors": Broken(error)}, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            pytest.warns(Notice, match=f"far.safetensors could not be read.*{words}") as said,
            pytest.raises(http.client.IncompleteRead),
        ):
            ask(server, "/far.safetensors")
        assert sum(one.category is Notice for one in said) == 1
        server.shutdown()
