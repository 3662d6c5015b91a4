"""Where what photos show is, found in the photos: a corridor whose walls are known."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_placement import looking, ring

from lg_field import PartitionGrid
from lg_field.captures import Capture, Photo, read_capture
from lg_field.errors import Notice
from lg_field.radiance.field import RadianceField
from lg_field.radiance.placement import look_at, look_outward, place, rays_begin
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.radiance.views import Views
from lg_field.training import stereo
from lg_field.training.lenses import Lenses
from lg_field.training.place import find_place
from lg_field.training.stereo import seen_points

WIDTH, HEIGHT, FOCAL = 160, 120, 140.0
HALF = torch.tensor([6.0, 1.0, 1.25], dtype=torch.float64)
"""Half the sides of the corridor, which is about the origin."""


def walk(count: int = 80, scale: float = 1.0) -> Views:
    """Someone walks along a corridor and looks to either side, now more onward and now more back."""
    k = torch.arange(count, dtype=torch.float64)
    along = torch.stack([-5.0 + 10.0 * k / count, 0.2 * torch.sin(0.5 * k), 0.1 * torch.cos(0.7 * k)], dim=1)
    angles = math.pi * (0.5 + k % 2) + 0.5 * torch.sin(0.3 * k)
    ahead = torch.stack([torch.cos(angles), torch.sin(angles), torch.zeros_like(k)], dim=1)
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    poses = looking(scale * along, scale * (along + ahead))
    return Views(poses, (FOCAL / size).expand(count, 2), torch.full((count, 2), 0.5).double())


def photographed(views: Views, folder: Path, scale: float = 1.0, texture: float = 1.0) -> list[Path]:
    """Photos of the corridor's inside, which is spotted all over."""
    generator = torch.Generator().manual_seed(0)
    waves = 25.0 * torch.randn(16, 3, generator=generator).double()
    across, down = torch.meshgrid(torch.arange(WIDTH) + 0.5, torch.arange(HEIGHT) + 0.5, indexing="xy")
    places = torch.stack([across / WIDTH, down / HEIGHT], dim=-1).view(-1, 2)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(len(views.poses)):
        origins, directions = views[k].rays(places)
        origins = origins / scale
        exits = torch.maximum((HALF - origins) / directions, (-HALF - origins) / directions).amin(1)
        spots = torch.sin((origins + exits[:, None] * directions) @ waves.T + torch.arange(16)).mean(1)
        grey = (120 + 250 * texture * spots).clamp(0, 255).view(HEIGHT, WIDTH)
        paths.append(folder / f"{k:03}.png")
        Image.fromarray(grey.byte().numpy()).convert("RGB").save(paths[-1])
    return paths


@pytest.mark.parametrize("scale", [1.0, 250.0])
def test_points_are_found_where_they_are(tmp_path: Path, scale: float) -> None:
    views = walk(scale=scale)
    points = seen_points(views, photographed(views, tmp_path, scale))
    assert points is not None and len(points) > 100
    off = (HALF - (points / scale).abs()).amin(1).abs()
    assert float(off.median()) < 0.05 and float(off.quantile(0.9)) < 0.3, "on the walls, the floor or the ceiling"


def test_photos_that_show_nothing_to_hold_on_to_say_nothing(tmp_path: Path) -> None:
    views = walk(12)
    blank = photographed(views, tmp_path / "blank", texture=0.0)
    assert seen_points(views, blank) is None
    assert seen_points(walk(2), blank[:2]) is None, "too few"
    still = Views(views.poses.clone(), views.focals, views.centers)
    still.poses[:, :, 3] = 0.0
    assert seen_points(still, blank) is None, "all from one place"


ORDERS = {
    "at random": np.random.default_rng(0).permutation(80).tolist(),
    "by name": sorted(range(80), key=str),
    "from the last": list(range(80))[::-1],
    "by one": [*range(1, 80), 0],
}


@pytest.mark.parametrize("order", ORDERS)
def test_photos_in_another_order_than_the_poses_are_said(tmp_path: Path, order: str) -> None:
    """The corridor's spots look alike: some of them are found anywhere."""
    views = walk()
    photos = photographed(views, tmp_path)
    with pytest.warns(
        Notice, match="^photos and poses do not seem to belong together: .* the order of the poses"
    ) as said:
        assert seen_points(views, [photos[k] for k in ORDERS[order]]) is None
    assert len(said) == 1 and "\n" not in str(said[0].message)


def panorama(apart: float, radius: float, count: int = 60) -> Views:
    """A camera is turned in one place, or nearly so."""
    k, generator = torch.arange(count, dtype=torch.float64), torch.Generator().manual_seed(1)
    angles = 2.0 * math.pi * k / count
    ahead = torch.stack([torch.cos(angles), torch.sin(angles), 0.2 * torch.sin(2.4 * k)], dim=1)
    origins = radius * ahead + apart * torch.randn(count, 3, generator=generator).double()
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    return Views(
        looking(origins, origins + ahead), (FOCAL / size).expand(count, 2), torch.full((count, 2), 0.5).double()
    )


@pytest.mark.parametrize("apart, radius", [(0.0, 0.02), (0.002, 0.0), (0.01, 0.0)])
def test_a_panorama_is_not_accused(tmp_path: Path, apart: float, radius: float) -> None:
    """All is too far away for its cameras to say how far, but where they look."""
    views = panorama(apart, radius)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        assert seen_points(views, photographed(views, tmp_path)) is None


def test_a_panorama_in_another_order_is_said(tmp_path: Path) -> None:
    views = panorama(0.0, 0.02)
    photos = photographed(views, tmp_path)
    with pytest.warns(Notice, match="belong together: .* by chance in the same photos turned upside down"):
        assert seen_points(views, [photos[k] for k in ORDERS["at random"] if k < 60]) is None


def one_way(count: int = 12) -> Views:
    """All look the same way, from one wall to the other."""
    views = walk(count)
    poses = views.poses.clone()
    poses[:, :, :3] = poses[0, :, :3]
    return Views(poses, views.focals, views.centers)


def told(views: Views, photos: list[Path]) -> tuple[torch.Tensor | None, list[str]]:
    """The points of photos, and what is said of them."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", Notice)
        return seen_points(views, photos), [str(line.message) for line in said]


def test_what_looks_the_same_way_is_no_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos of one side show the same things, which may be found where they are not."""
    views = one_way(40)
    photos = photographed(views, tmp_path)
    points, said = told(views, photos)
    assert points is not None and float((HALF - points.abs()).amin(1).abs().median()) < 0.05 and not said
    for order in ("at random", "from the last"):
        points, said = told(views, [photos[k] for k in ORDERS[order] if k < 40])
        assert points is None and len(said) == 1 and "belong together" in said[0], order
    monkeypatch.setattr(stereo, "CHANCE", 3.7)  # of points there are 4.0 times as many, of what is found again 3.5
    points, said = told(views, photos)
    assert points is None and said, "what is said not to belong together is not believed"


def tilted(degrees: float, walks: bool, count: int = 80) -> Views:
    """Cameras that turn all around and look up or down, on a walk or about one place."""
    views, k, tilt = walk(count), torch.arange(count, dtype=torch.float64), math.radians(degrees)
    angles = math.pi * (0.5 + k % 2) + 0.5 * torch.sin(0.3 * k) if walks else 0.35 * k
    level = torch.stack([torch.cos(angles), torch.sin(angles), torch.zeros_like(k)], dim=1)
    ahead = math.cos(tilt) * level + math.sin(tilt) * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    origins = views.origins if walks else 0.35 * level + views.origins * torch.tensor([0.0, 0.0, 0.5])
    return Views(looking(origins, origins + ahead), views.focals, views.centers)


@pytest.mark.parametrize(("degrees", "walks"), [(-40.0, True), (35.0, False)])
def test_tilted_photos_in_another_order_are_said(tmp_path: Path, degrees: float, walks: bool) -> None:
    """None of them looks the opposite way of another."""
    views = tilted(degrees, walks)
    assert look_outward(views) and float((views.axes @ views.axes.T).min()) > -0.5
    photos = photographed(views, tmp_path)
    points, said = told(views, photos)
    assert not said and (points is not None) == walks, "who turns about one place is too far from all"
    if points is not None:
        assert float((HALF - points.abs()).amin(1).abs().median()) < 0.05
    for order in ("at random", "by name", "from the last"):
        points, said = told(views, [photos[k] for k in ORDERS[order]])
        assert points is None and len(said) == 1 and "belong together" in said[0], order


def test_some_photos_in_each_others_place_do_no_harm(tmp_path: Path) -> None:
    views = walk()
    photos = photographed(views, tmp_path)
    for a, b in ((3, 40), (11, 62), (25, 70), (33, 55)):
        photos[a], photos[b] = photos[b], photos[a]
    points = seen_points(views, photos)
    assert points is not None and float((HALF - points.abs()).amin(1).abs().median()) < 0.05


def test_photos_of_something_else_are_said(tmp_path: Path) -> None:
    """Nothing in them is found again, not even by chance."""
    views, generator = walk(12), np.random.default_rng(0)
    paths = [tmp_path / f"{k}.png" for k in range(12)]
    for path in paths:
        noise = Image.fromarray(generator.integers(0, 256, (HEIGHT // 4, WIDTH // 4), dtype=np.uint8))
        noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
    with pytest.warns(Notice, match="do not seem to belong together"):
        assert seen_points(views, paths) is None


def test_who_walks_amid_things_is_close_to_them(tmp_path: Path) -> None:
    """Rays begin before the walls do, gradients are whole from there on, the corridor is not a speck in the scene."""
    views = walk()
    assert look_outward(views)
    photos = photographed(views, tmp_path)
    found = place(views, seek=lambda: seen_points(views, photos))
    blind = place(views)
    begin, close = found.radius * found.begin(0.05), found.radius * found.close
    assert 0.1 < begin < 0.5 < close < 2.0, "the nearest wall is at most one unit away"
    assert found.radius < 0.5 * blind.radius and blind.close == math.inf
    assert "points found in the photos" in found.reason and "points" not in blind.reason
    assert f"rays begin at {found.near:.2g}" in found.reason and "guessed" in blind.reason, "nothing is silent"
    assert blind.begin(0.05) == max(0.05, blind.near)


def test_photos_are_asked_only_where_cameras_do_not_say_it() -> None:
    def never() -> None:
        raise AssertionError("asked")

    around, generator = ring(), torch.Generator().manual_seed(0)
    assert place(around, seek=never).close == math.inf
    with pytest.raises(AssertionError, match="asked"):
        place(walk(), seek=never)
    walls = HALF * (2.0 * torch.rand(500, 3, generator=generator).double() - 1.0)
    walls[torch.arange(500), torch.arange(500) % 3] = HALF[torch.arange(500) % 3]
    assert place(walk(), walls, seek=never).close < math.inf, "there are points"
    assert place(walk(), seek=never, box=torch.stack([-HALF, HALF])).box is not None
    assert 3.0 < look_at(walk(), walls)[1] < 7.0


def test_rays_begin_at_the_farther_one_but_amid_things() -> None:
    assert rays_begin(0.05, 0.2, math.inf) == 0.2 and rays_begin(0.05, 0.01, math.inf) == 0.05
    assert rays_begin(0.05, 0.01, 0.04) == 0.01


@pytest.mark.parametrize(("close", "until"), [(math.inf, 0.8), (0.1, 0.1), (3.0, 0.8)])
def test_gradients_are_scaled_up_to_what_is_close(close: float, until: float) -> None:
    grid = PartitionGrid((2, 2, 2), (-2.0,) * 3, (2.0,) * 3)
    trainer = RadianceTrainer(RadianceField(grid, RadianceSizes(contraction=True)), TrainingSettings())
    trainer.close = close
    assert trainer._scaled_until == until and trainer.state()["gradient_scaling"] == until


def captured(folder: Path, order: list[int] | None = None) -> tuple[Capture, list[Photo]]:
    """A walk as a capture, whose files may be in another order than the poses; and its training photos."""
    views = walk()
    photographed(views, folder / "images")
    bottom = np.array([[0.0, 0.0, 0.0, 1.0]])
    frames = [
        {"file_path": f"images/{k:03}.png", "transform_matrix": np.concatenate([pose, bottom]).tolist()}
        for k, pose in zip(order or range(len(views.poses)), views.poses.numpy())
    ]
    lens = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    capture = read_capture(folder)
    return capture, capture.part("train")


def test_a_capture_of_a_walk_is_placed_by_its_photos(tmp_path: Path) -> None:
    capture, photos = captured(tmp_path)
    place = find_place(capture, Lenses.of(photos, [(WIDTH, HEIGHT)] * len(photos)))
    assert place.placement.close < 1.0 and "outward" in place.placement.reason
    scale = float(torch.linalg.det(place.to_world[:3, :3])) ** (1 / 3)
    assert 2.0 < scale < 7.0, "world units in a radius: the corridor is 6 long to either side"


def test_a_capture_whose_photos_are_in_disorder_is_placed_without_them(tmp_path: Path) -> None:
    capture, photos = captured(tmp_path, ORDERS["by name"])
    lenses = Lenses.of(photos, [(WIDTH, HEIGHT)] * len(photos))
    with pytest.warns(Notice, match="belong together"):
        found = find_place(capture, lenses).placement
    assert found.close == math.inf and "guessed" in found.reason and "points" not in found.reason


def test_photos_that_lie_on_their_side_are_turned_upright(tmp_path: Path) -> None:
    views = walk()
    paths = photographed(views, tmp_path)
    upright = seen_points(views, paths)
    for path in paths:
        picture = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        exif = picture.getexif()
        exif[0x0112] = 6  # turn it by 90 degrees clockwise to see it upright
        picture.save(path, exif=exif)
    turned = seen_points(views, paths, [True] * len(paths))
    assert upright is not None and turned is not None and torch.equal(upright, turned)


def test_a_run_whose_scene_was_placed_otherwise_does_not_go_on() -> None:
    grid = PartitionGrid((2, 2, 2), (-2.0,) * 3, (2.0,) * 3)
    trainer = RadianceTrainer(RadianceField(grid, RadianceSizes(contraction=True)), TrainingSettings())
    trainer.place = torch.eye(4, dtype=torch.float64)
    state = trainer.state()
    trainer.load_state(state)
    old = {name: value for name, value in state.items() if name != "place"}
    trainer.load_state(old)
    trainer.close = 0.3
    with pytest.raises(ValueError, match="placed otherwise"):
        trainer.load_state(old)  # of a version that places such scenes otherwise
    trainer.load_state(state)
    trainer.place = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="placed otherwise"):
        trainer.load_state(state)
    trainer.place = None
    trainer.load_state(state)  # the place was told
