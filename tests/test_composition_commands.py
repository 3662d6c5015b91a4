"""`lg-field compose`, and the commands that take a composition; its JSON from strangers; its page."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from ball_scene import LARGE, MEDIUM, ball_scene
from commands import lg, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lg_field
from lg_field import Region
from lg_field.files import FileError
from lg_field.radiance.arrangement import Arrangement, Place, located, read_arrangement, relative_to
from lg_field.radiance.opening import CompositionFile
from lg_field.table.editing import crop
from lg_field.viewer.arranging import CompositionSubject, PlacePanel, angles_of, quaternion_of

SMALL = ("--orbit", 1, "--width", 24, "--height", 24)
PLACED = ("--place", "chair", "--move", 1, 0, 0.2, "--turn", 0, 0, 90, "--scale", 0.8)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    whole = ball_scene()
    lg_field.save(whole, folder / "room.safetensors")
    lg_field.save(ball_scene([MEDIUM]), folder / "chair.safetensors")
    region = Region.box((-9.0, -9.0, -9.0), (0.07, 9.0, 9.0))
    lg_field.save(crop(whole, region), folder / "left.safetensors")
    lg_field.save(crop(whole, region, invert=True), folder / "right.safetensors")
    lg("compose", "room.safetensors", "chair.safetensors", *PLACED, "-o", "scene.json", cwd=folder)
    return folder


def shot(folder: Path, source: object, *more: object) -> np.ndarray:
    lg("render", source, *SMALL, *more, "-o", "shot.png", "--overwrite", cwd=folder)
    return np.asarray(Image.open(folder / "shot.png")).astype(int)


def test_the_command_writes_what_it_was_told(parts: Path) -> None:
    made = read_arrangement(str(parts / "scene.json"))
    room, chair = made.parts
    assert (room.name, room.file, room.place) == ("room", "room.safetensors", Place())
    assert chair.place == Place((1.0, 0.0, 0.2), (0.0, 0.0, 90.0), 0.8)
    assert set(json.loads((parts / "scene.json").read_text())) == {"format", "version", "parts"}


def test_a_scene_cut_in_two_and_composed_renders_as_before(parts: Path) -> None:
    lg("compose", "left.safetensors", "right.safetensors", "-o", "both.json", cwd=parts)
    camera = parts / "path.json"
    pose = np.asarray(lg_field.load(parts / "room.safetensors").description.camera).ravel().tolist()
    shot_of = {"camera_to_world": pose, "fov": 40.0, "aspect": 1.0}
    path = {"render_height": 24, "render_width": 24, "camera_type": "perspective", "camera_path": [shot_of]}
    camera.write_text(json.dumps(path))
    pictures = []
    for source in ("room.safetensors", "both.json"):
        lg("render", source, "--camera", camera, "-o", "shot.png", "--overwrite", cwd=parts)
        pictures.append(np.asarray(Image.open(parts / "shot.png")).astype(int))
    assert pictures[0].std() > 5 and np.abs(pictures[0] - pictures[1]).max() <= 1


def test_several_parts_and_copies_are_placed_and_compositions_taken_over(parts: Path, tmp_path: Path) -> None:
    room, chair = parts / "room.safetensors", parts / "chair.safetensors"
    words = ("--place", "chair", "move", 1, 0, 0, "turn", 0, 0, -45, "chair-2", "scale", 0.5, "move", 0, -1, 0)
    lg("compose", room, chair, chair, *words, "-o", "a.json", "--background", 0, 0, 0, cwd=tmp_path)
    made = read_arrangement(str(tmp_path / "a.json"))
    assert [p.name for p in made.parts] == ["room", "chair", "chair-2"]
    assert made.parts[1].place == Place((1.0, 0.0, 0.0), (0.0, 0.0, -45.0))
    assert made.parts[2].place == Place((0.0, -1.0, 0.0), scale=0.5)
    (tmp_path / "deep").mkdir()
    lg("compose", "a.json", chair, "--place", "chair-3", "--move", 2, 2, 2, "-o", "deep/b.json", cwd=tmp_path)
    again = read_arrangement(str(tmp_path / "deep/b.json"))
    assert [p.place for p in again.parts] == [*(p.place for p in made.parts), Place((2.0, 2.0, 2.0))]
    with CompositionFile.open(str(tmp_path / "deep/b.json")) as file:
        assert len(file.files) == 2 and [Path(f).name for f in file.files] == [room.name, chair.name]
    lg("compose", "a.json", chair, "-o", "a.json", "--overwrite", cwd=tmp_path)
    assert len(read_arrangement(str(tmp_path / "a.json")).parts) == 4


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("room.safetensors", "-o", "x.safetensors"), "a composition is called NAME.json"),
        (("gone.safetensors", "-o", "x.json"), "gone.safetensors"),
        (("room.safetensors", "image.safetensors", "-o", "x.json"), "is no scene file"),
        (("room.safetensors", "-o", "scene.json"), "scene.json exists"),
        (("room.safetensors", "--move", 1, 0, 0, "-o", "x.json"), "named by --place NAME"),
        (("room.safetensors", "--place", "chair", "-o", "x.json"), "there is no part 'chair'"),
        (("room.safetensors", "--place", "room", "move", 1, "-o", "x.json"), "move takes 3 numbers, got 1"),
        (("room.safetensors", "--place", "room", "scale", "big", "-o", "x.json"), "scale takes 1 numbers"),
        (("room.safetensors", "--place", "room", "--scale", 0, "-o", "x.json"), "scale must be a number from"),
        (("room.safetensors", "--place", "room", "--move", "nan", 0, 0, "-o", "x.json"), "three finite numbers"),
        (("room.safetensors", "--background", 2, 0, 0, "-o", "x.json"), "three numbers from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(parts: Path, words: tuple[object, ...], match: str) -> None:
    if not (parts / "image.safetensors").exists():
        Image.fromarray(picture(16, 16)).save(parts / "i.png")
        lg("encode", "i.png", "-o", "image.safetensors", "--steps", 1, cwd=parts)
    said = lg("compose", *words, cwd=parts, fails=True).splitlines()[-1]
    assert match in said and said.startswith("lg-field: ") and not (parts / "x.json").exists()


def test_info_and_validate_say_what_there_is(parts: Path) -> None:
    said = lg("info", "scene.json", cwd=parts)
    assert "chair.safetensors" in said and "2 parts of 2 files" in said and "shown: everything" in said
    facts = json.loads(lg("info", "scene.json", "--json", cwd=parts))
    assert facts["parts"][1]["scale"] == 0.8 and facts["parts"][0]["cells"] == 64
    assert "scene.json: sound, 2 parts" in lg("validate", "scene.json", cwd=parts)


def test_a_crop_of_a_composition_is_a_smaller_one_that_shows_the_same(parts: Path, tmp_path: Path) -> None:
    box = ("--box", -0.9, -0.9, -0.9, 0.2, 0.9, 0.9)
    said = lg("crop", parts / "scene.json", "-o", tmp_path / "part.json", *box, cwd=parts)
    assert "room: 48 of 64 cells" in said and "files stay as they are" in said
    lg("crop", tmp_path / "part.json", "-o", "less.json", "--sphere", 0, 0, 0, 0.6, cwd=tmp_path)
    less = read_arrangement(str(tmp_path / "less.json"))
    assert less.region == Region.box((-0.9,) * 3, (0.2, 0.9, 0.9)) & Region.sphere((0.0,) * 3, 0.6)
    cut, asked = shot(parts, tmp_path / "part.json"), shot(parts, "scene.json", *box)
    assert cut.std() > 5 and np.abs(cut - asked).max() <= 1
    with CompositionFile.open(str(tmp_path / "part.json")) as file:
        file.load()
        assert file.bytes_read < sum(f.reader.size for f in file.files.values())
    lg("crop", parts / "scene.json", "--dry-run", *box, cwd=tmp_path)
    assert "part.json is cropped" in lg("compose", "part.json", "-o", "x.json", cwd=tmp_path, fails=True)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--box", 50, 50, 50, 60, 60, 60), "nothing would be kept"),
        (("--cells", "0-7"), "of which part they are, as chair:0-7,12: the parts are room, chair"),
        (("--cells", "lamp:0-7"), "there is no part 'lamp'"),
        (("--cells", "chair:0-99"), "part chair: no cell 0-99"),
        (("--cells", "chair:0", "--box", 0, 0, 0, 1, 1, 1), "give cells or a region, not both"),
        (("--component", 99), "there is no component 99"),
        (("--focus",), "were each looked at by cameras of their own"),
        (("--above-plane", 1), "takes no number or four"),
        (("--box", 0, 0, 0, 1, 1, 1, "--dtype", "float16"), "are for field files"),
        (("--box", 0, 0, 0, 1, 1, 1, "--masks", "masks"), "are for field files"),
        ((), "say what to keep"),
    ],
)
def test_crops_that_make_no_sense_are_refused(parts: Path, words: tuple[object, ...], match: str) -> None:
    assert match in lg("crop", "scene.json", "-o", "no.json", *words, cwd=parts, fails=True).splitlines()[-1]
    assert not (parts / "no.json").exists()


def test_the_first_part_stays_listed_for_its_world_units(parts: Path, tmp_path: Path) -> None:
    lg("compose", parts / "room.safetensors", parts / "chair.safetensors", "--place", "chair", "--move", 9, 0, 0,
       "-o", "far.json", cwd=tmp_path)  # fmt: skip
    said = lg("crop", "far.json", "-o", "chair.json", "--box", 8, -1, -1, 10, 1, 1, cwd=tmp_path)
    assert "it stays listed" in said
    with CompositionFile.open(str(tmp_path / "chair.json")) as file:
        assert [p.name for p in file.arrangement.parts] == ["room", "chair"]
        assert [p.name for p in file.load().parts] == ["chair"]


def test_meshes_hold_every_part_in_the_units_asked_for(parts: Path) -> None:
    arguments = ("--resolution", 24, "--threshold", 0.05, "--no-colors", "--overwrite")
    lg("mesh", "scene.json", "-o", "m.ply", *arguments, cwd=parts)
    plain = trimesh.load(parts / "m.ply", process=False)
    lg("mesh", "scene.json", "-o", "w.ply", "--world", *arguments, cwd=parts)
    world = trimesh.load(parts / "w.ply", process=False)
    assert plain.is_watertight and np.allclose(world.vertices, plain.vertices * 2 + np.array([1, 0, 0]), atol=1e-5)
    lg("mesh", "scene.json", "-o", "c.ply", "--box", -2, -2, -2, 0, 2, 2, *arguments, cwd=parts)
    assert trimesh.load(parts / "c.ply").bounds[1, 0] < 0.06 < plain.bounds[1, 0]


def test_commands_of_field_files_say_that_this_is_none(parts: Path) -> None:
    for words in (("prune", "scene.json", "-o", "x"), ("decode", "scene.json", "-o", "x.png")):
        assert "a composition" in lg(*words, cwd=parts, fails=True).splitlines()[-1]


# -- JSON from strangers

SOUND = {"format": "lg-field composition", "version": 1, "parts": [{"name": "a", "file": "a.safetensors"}]}
BAD = [
    ({"version": 2}, "version 1, got 2"),
    ({"version": True}, "version 1, got True"),
    ({"format": "x"}, "no composition"),
    ({"extra": 1}, "may have"),
    ({"parts": []}, "1 to 256 parts"),
    ({"parts": {}}, "must be a list"),
    ({"parts": [SOUND["parts"][0]] * 300}, "must be a list of at most"),
    ({"parts": [SOUND["parts"][0]] * 2}, "two parts are called 'a'"),
    ({"parts": [{"name": "a"}]}, "a part needs the entries"),
    ({"parts": [{"name": "a", "file": "f", "code": "x"}]}, "may have"),
    ({"parts": [{"name": "a", "file": "f", "move": [1, 2]}]}, "move must be three finite"),
    ({"parts": [{"name": "a", "file": "f", "turn": [1, 2, True]}]}, "turn must be three finite"),
    ({"parts": [{"name": "a", "file": "f", "scale": -1}]}, "scale must be a number"),
    ({"parts": [{"name": "a", "file": "f", "scale": "2"}]}, "scale must be a number"),
    ({"parts": [{"name": "", "file": "f"}]}, "name must be text"),
    ({"parts": [{"name": "a\nb", "file": "f"}]}, "name must be text"),
    ({"parts": [{"name": "a", "file": "/etc/passwd"}]}, "relative to the composition's folder"),
    ({"parts": [{"name": "a", "file": "~/x"}]}, "relative to the composition's folder"),
    ({"parts": [{"name": "a", "file": "file:///etc/passwd"}]}, "one plain address"),
    ({"parts": [{"name": "a", "file": "zip://a::http://b"}]}, "one plain address"),
    ({"parts": [{"name": "a", "file": "f", "shown": 1}]}, "true or false"),
    ({"parts": [{"name": "a", "file": "f", "region": {"type": "evil"}}]}, "not a region"),
    ({"parts": [{"name": "a", "file": "f", "region": {"type": "box", "lower": [0], "upper": [1]}}]}, "a part has 3"),
    ({"region": {"type": "box", "lower": [0], "upper": [1]}}, "a composition has 3"),
    ({"region": {"type": "evil"}}, "not a region"),
    ({"background": [0, 0, 9]}, "from 0 to 1"),
]


@pytest.mark.parametrize(("change", "match"), BAD)
def test_senseless_compositions_are_refused_in_a_line(tmp_path: Path, change: dict, match: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(SOUND | change))
    with pytest.raises(FileError, match=match) as refusal:
        read_arrangement(str(path))
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 600


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1,"a":2}', '{"x": NaN}', "[" * 9999, " " * (2 << 20)])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(FileError):
        read_arrangement(str(tmp_path / "c.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(
    key=st.sampled_from(["parts", "region", "background", "name", "file", "move", "turn", "scale", "shown"]), value=JSON
)
def test_any_entry_may_be_anything(key: str, value: object) -> None:
    """A ValueError, or an arrangement that is written and read again."""
    part = {"name": "a", "file": "f", "move": [0.0, 0.0, 0.0], "turn": [0.0, 0.0, 0.0], "scale": 1.0, "shown": True}
    data = SOUND | {"parts": [part | {key: value}]} if key in part else SOUND | {key: value}
    try:
        made = Arrangement.from_dict(data)
    except ValueError:
        return
    assert Arrangement.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_parts_are_found_from_where_the_composition_is(tmp_path: Path) -> None:
    assert located("sub/a", "here/c.json") == "here/sub/a" and located("../a", "here/c.json") == "a"
    assert located("sub/a", "https://host/x/c.json?token=1") == "https://host/x/sub/a"
    assert located("https://other/a", "c.json") == "https://other/a"
    with pytest.raises(ValueError, match="outside its folder"):
        located("../a", "https://host/x/c.json")
    assert relative_to(str(tmp_path / "a"), tmp_path / "deep/c.json") == "../a"
    assert relative_to("s3://b/a", tmp_path / "c.json") == "s3://b/a"


def test_a_composition_is_read_from_an_address(parts: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="reading addresses needs lg-field[remote]")
    store = fsspec.filesystem("memory")
    for name in ("scene.json", "room.safetensors", "chair.safetensors"):
        store.pipe(f"/set/{name}", (parts / name).read_bytes())
    with CompositionFile.open("memory://set/scene.json") as file:
        assert [p.name for p in file.load().parts] == ["room", "chair"]


# -- its page


def subject_of(folder: Path) -> CompositionSubject:
    path = folder / "scene.json"
    with CompositionFile.open(str(path)) as file:
        return CompositionSubject(file.load(), file.arrangement, path, str(path))


def test_parts_are_moved_copied_removed_and_saved(parts: Path, tmp_path: Path) -> None:
    subject, changes = subject_of(parts), []
    subject.on_change.append(lambda: changes.append(1))
    there = Place((0.0, 2.0, 0.0), (0.0, 0.0, 30.0), 0.5)
    assert subject.put("chair", there) and not subject.put("chair", there)
    assert subject.copy("chair") == "chair-2" and subject.place("chair-2") == there
    subject.remove("chair")
    assert subject.names() == ("room", "chair-2") and len(changes) == 3
    assert subject.shown.parts[1].place == there
    subject.save(tmp_path / "new.json")
    with CompositionFile.open(str(tmp_path / "new.json")) as file:
        assert [(p.name, p.place) for p in file.arrangement.parts] == [("room", Place()), ("chair-2", there)]
    with pytest.raises(FileExistsError):
        subject.save(tmp_path / "new.json")
    with pytest.raises(ValueError, match="called NAME"):
        subject.save(tmp_path / "new.safetensors")
    while subject.undo():
        pass
    assert subject.arrangement == read_arrangement(str(parts / "scene.json"))
    subject.remove("room")
    with pytest.raises(ValueError, match="at least one part"):
        subject.remove("chair")


def test_turns_are_the_same_as_angles_and_as_quaternions() -> None:
    pytest.importorskip("viser", reason="the viewer needs viser")
    for turn in ((10.0, 20.0, 30.0), (0.0, 0.0, 90.0), (-45.0, 5.0, 170.0)):
        place = Place(turn=turn)
        assert angles_of(quaternion_of(place)) == pytest.approx(turn, abs=0.011)


def test_numbers_and_handles_move_the_part_that_is_chosen(parts: Path, tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="the viewer needs viser")
    from lg_field.viewer.page import open_server

    subject, server = subject_of(parts), open_server(0, "test")
    try:
        panel = PlacePanel(server, subject)
        assert panel.part.value == "chair" and tuple(panel.move.value) == (1.0, 0.0, 0.2)
        panel.move.value = (0.5, 0.5, 0.5)
        panel.edit(panel.put)
        assert subject.place("chair").move == (0.5, 0.5, 0.5)
        turned = quaternion_of(Place(turn=(0.0, 0.0, 45.0)))
        panel.dragged(SimpleNamespace(position=np.array([1.0, 2.0, 3.0]), wxyz=turned))
        assert subject.place("chair") == Place((1.0, 2.0, 3.0), (0.0, 0.0, 45.0), 0.8)
        assert tuple(panel.move.value) == (1.0, 2.0, 3.0)
        panel.edit(panel.copy)
        assert subject.names() == ("room", "chair", "chair-2") and panel.part.value == "chair-2"
        panel.edit(panel.remove)
        panel.edit(panel.undo)
        panel.path.value = str(tmp_path / "saved.json")
        panel.save()
        assert "saved" in panel.message.content and (tmp_path / "saved.json").exists()
        panel.scale.value = 0.0
        panel.edit(panel.put)
        assert "scale must be a number" in panel.message.content.replace("&#32;", " ")
    finally:
        server.stop()


def test_what_a_page_renders_follows_the_parts(parts: Path) -> None:
    from lg_field.radiance.render import ask_view, orbit

    subject = subject_of(parts)
    camera = next(orbit(subject.shown, subject.scene, 1, 8, 8))
    rays = [v.view(-1, 3) for v in camera.rays()]
    before = ask_view(subject.shown, subject.scene, *rays)
    subject.put("room", Place((0.0, 0.0, 50.0)))
    after = ask_view(subject.shown, subject.scene, *rays)
    assert len(after.density) < len(before.density) and not torch.equal(before.density, after.density)


def test_balls_apart_are_seen_apart(parts: Path, tmp_path: Path) -> None:
    """Two copies beside each other show twice as much as one."""
    lg_field.save(ball_scene([LARGE]), tmp_path / "ball.safetensors")
    lg("compose", "ball.safetensors", "ball.safetensors", "--place", "ball-2", "--move", 0, 1.5, 0, "-o", "two.json",
       cwd=tmp_path)  # fmt: skip
    lg("mesh", "two.json", "-o", "two.ply", "--resolution", 40, "--threshold", 0.05, "--no-colors", cwd=tmp_path)
    assert len(trimesh.load(tmp_path / "two.ply").split()) == 2
