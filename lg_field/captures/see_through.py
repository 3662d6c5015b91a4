"""What photos show of their backdrop through a thing: within a handle, between legs.

Such a region has the backdrop's colour, as paint on the thing may have, and the thing goes all around it. It is a hole
where other cameras, from behind, see the backdrop, too, at every point that the thing may have on the way of its light:
points inside the visual hull (Laurentini, IEEE PAMI 16(2), 1994) of what lies within the photos' outer backdrop; points
that cameras see through holes that are known already are empty. Paint has something behind it that these cameras see.
Paint on both sides looks like a hole straight on only: light that comes in at an angle leaves a hole by its other
opening, and would leave paint beside the paint of the other side. So one of the cameras that are nearest to opposite
must see the backdrop where the light leaves, and nearly all photos that show the backdrop's colour at the openings must
show a hole there. Of a thin plate much of the light leaves by the paint of the other side, however; and cameras on a
ring are opposite to none. So the hull is carved, too, by all photos that show the region, as if they saw a hole there:
around a hole the thing is left wherever photos show it; around paint slanted views from either side carve away the
plate that photos show there. Poses are never exact: how often they carve away what photos show along the thing's
outline, where nothing is in doubt, says how much of that means nothing. Paint on a plate thinner than about a tenth of
it carves too little, and is taken for a hole.
What no camera sees from behind stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lg_field.captures.capture import Backdrop, Lens, Photo
from lg_field.captures.cut_out import image_measures, parted
from lg_field.captures.photo_file import read_photo

SIDE = 192
"""Pixels of the longer side of what is looked at."""
LEAST = 12
"""Pixels of a region, of so small photos, that may be a hole."""
RAYS = 16
"""Pixels of a region whose light is followed."""
STEPS, NEAR, FAR = 128, 0.3, 1.7
"""Points of a way, from the first to the second number, in distances from the camera to what all look at."""
FIRST = 16
"""Photos that are looked at first: where none of them shows such a region, the others are not read."""
VIEWS = 48
"""Cameras that are asked about each point."""
MISSES, SHOWN = 0.1, 1 / 3
"""The hull: part of the photos that show a point which may show backdrop there, and part of all that must show it."""
BEHIND = 0.3
"""Cosine from which on a camera is behind a point."""
AGREE = (2, 0.1)
"""Cameras behind a point, and part of those there are, that must see the backdrop there."""
OPPOSITE = 8
"""Cameras behind the end of a way, the nearest to opposite, of which one at least must see the backdrop there."""
ROUNDS = 4
"""Holes that are known say of others that they are some."""
MOST, KNOWN = 0.7, 0.5
"""Part of the ways from which on their region is a hole; and where they end in holes that are known."""
PAINTED = 0.2
"""Part of what shows the backdrop's colour at a hole's openings, and is no known hole, from which on it is paint."""
ALSO = 0.3
"""Part of the ways from which on a region is thought to be of the same hole or paint as another that shows it."""
BARE, DOUBT = 0.1, 2.0
"""Paint: part of the pixels along a region's rim behind which nothing would be left, and that beyond so many times the
part of those along the thing's outline behind which nothing is."""


class View(NamedTuple):
    """A small photo and its camera."""

    photo: Photo
    solid: np.ndarray
    """(height, width) bool: what is not outer backdrop, and a pixel around it."""
    pieces: np.ndarray
    """(height, width) int: which region of the backdrop's colour within the thing each pixel is of; 0 = of none."""
    plain: np.ndarray
    """(height, width) bool: of the backdrop's colour, outside or within."""
    holes: np.ndarray
    """(height, width) bool: which of these regions are known to be holes."""

    @staticmethod
    def of(photo: Photo, backdrop: Backdrop) -> View:
        """Read small.

        Raises:
            CaptureError: a broken photo, or SciPy is missing.
        """
        ndimage = image_measures()
        scale = min(1.0, SIDE / max(photo.lens.width, photo.lens.height))
        pixels = read_photo(replace(photo, backdrop=None), False, scale)
        _, outside, pieces = parted(pixels, backdrop)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        pieces = np.where(sizes[pieces] >= LEAST, pieces, 0)
        solid = ndimage.binary_dilation(~outside, np.ones((3, 3)))
        return View(photo, solid, pieces, outside | (pieces > 0), np.zeros_like(outside))

    def at(self, points: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Which (n, 3) points are in the photo, and their rows and columns."""
        lens, pose = self.photo.lens, self.photo.pose
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = -local[:, 2]
        safe = np.where(depth > 1e-9, depth, 1.0)
        x, y = bent(lens, local[:, 0] / safe, -local[:, 1] / safe)
        height, width = self.solid.shape
        column = np.floor((lens.fx * x + lens.cx) * (width / lens.width))
        row = np.floor((lens.fy * y + lens.cy) * (height / lens.height))
        inside = (depth > 1e-9) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = [np.where(inside, v, 0.0).astype(np.int64) for v in (row, column)]
        return inside, (place[0], place[1])

    def directions(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, 3) unit directions through the middles of pixels."""
        lens, (height, width) = self.photo.lens, self.solid.shape
        wanted_x = ((columns + 0.5) * (lens.width / width) - lens.cx) / lens.fx
        wanted_y = ((rows + 0.5) * (lens.height / height) - lens.cy) / lens.fy
        x, y = wanted_x, wanted_y
        for _ in range(10):
            now_x, now_y = bent(lens, x, y)
            x, y = x + wanted_x - now_x, y + wanted_y - now_y
        local = np.stack([x, -y, -np.ones_like(x)], axis=1)
        away: np.ndarray = (local / np.linalg.norm(local, axis=1, keepdims=True)) @ self.photo.pose[:3, :3].T
        return away


def bent(lens: Lens, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a lens shows directions x / z, y / z (OpenCV's model)."""
    if not any(lens.distortion):
        return x, y
    k1, k2, k3, k4, p1, p2 = lens.distortion
    square = x * x + y * y
    radial = 1.0 + square * (k1 + square * (k2 + square * (k3 + square * k4)))
    return (
        x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x),
        y * radial + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y,
    )


def holes_of(photos: Sequence[Photo], backdrop: Backdrop) -> list[np.ndarray | None]:
    """Where each photo shows its backdrop through the thing.

    Args:
        photos: with a pose each.
        backdrop: of all.

    Returns:
        Of each photo a small (height, width) bool picture of its holes; None where it has none.

    Raises:
        CaptureError: a broken photo, or SciPy is missing.
    """
    few = spread(len(photos), FIRST)
    known = {k: View.of(photos[k], backdrop) for k in few}
    if not any(view.pieces.any() for view in known.values()):
        return [None] * len(photos)
    views = [known.get(k) or View.of(photo, backdrop) for k, photo in enumerate(photos)]
    focus = looked_at([photo.pose for photo in photos])
    asked = spread(len(views), VIEWS)
    left = [(k, number) for k, view in enumerate(views) for number in np.unique(view.pieces[view.pieces > 0]).tolist()]
    others = {k: [views[other] for other in asked if other != k] for k in {k for k, _ in left}}
    proven: dict[Region, Ways] = {}

    def through(regions: Sequence[Region], sure: bool) -> dict[Region, Ways]:
        return {(k, n): ways_through(views[k], views[k].pieces == n, others[k], focus, sure) for k, n in regions}

    first = through(left, True)
    paint = on_both_sides(views, first, asked, focus)
    left = [one for one in left if one not in paint]
    for sure in (True, False):
        for turn in range(ROUNDS):
            tried = first if sure and turn == 0 else through(left, sure)
            found = {one: tried[one] for one in left if tried[one].share >= (MOST if sure else KNOWN)}
            for k, number in found:
                views[k].holes[views[k].pieces == number] = True
            proven.update(found)
            left = [one for one in left if one not in found]
            if not found:
                break
        without_paint(views, proven, others)
        if not proven:
            break
    return [view.holes if view.holes.any() else None for view in views]


Region = tuple[int, int]
"""Number of a photo, and of a piece of it."""


class Ways(NamedTuple):
    """Where light that comes through a hole enters and leaves what may be the thing."""

    along: np.ndarray
    """(n, 3) unit directions away from the camera."""
    near: np.ndarray
    """(n, 3) the ends toward the camera."""
    far: np.ndarray
    """(n, 3) the other ends."""
    share: float
    """Part of the ways that were tried that goes through."""


def on_both_sides(
    views: Sequence[View], tried: dict[Region, Ways], asked: Sequence[int], focus: np.ndarray
) -> set[Region]:
    """Regions that are paint: were they holes, there would be nothing behind what photos show around them.

    Args:
        views: of all photos.
        tried: ways through every region.
        asked: numbers of the photos that are asked.
        focus: (3,) what all cameras look at.
    """
    likely = {one: ways for one, ways in tried.items() if ways.share >= MOST}
    if not likely:
        return set()
    inner = {k: inner_pixels(views[k].pieces) for k in asked}
    outer, some = {k: ~views[k].solid for k in asked}, [asked[n] for n in spread(len(asked), FIRST)]
    outlines = sum((bare(views, k, views[k].plain & (views[k].pieces == 0), outer, focus) for k in some), np.zeros(2))
    least = BARE + DOUBT * outlines[0] / max(outlines[1], 1.0)
    same, rims = {}, {}
    for (k, number), ways in likely.items():
        others = [one for one in shown_by(views, ways, asked) if one[0] != k and one in tried]
        same[k, number] = [(k, number), *(one for one in others if tried[one].share >= ALSO)]
        pieces = dict(same[k, number])
        empty = {j: inner[j] == pieces.get(j, -1) for j in asked}
        rims[k, number] = bare(views, k, views[k].pieces == number, empty, focus)
    found = set()
    for one in likely:
        without, all_there_are = sum((rims[other] for other in same[one] if other in rims), np.zeros(2))
        if without > least * all_there_are:
            found.add(one)
    return found


def inner_pixels(pieces: np.ndarray) -> np.ndarray:
    """(height, width) int: the pieces without the pixels along their edges, which may show a part of the thing."""
    ndimage = image_measures()
    cross = ndimage.generate_binary_structure(2, 1)
    alike = ndimage.minimum_filter(pieces, footprint=cross) == ndimage.maximum_filter(pieces, footprint=cross)
    inner: np.ndarray = np.where(alike, pieces, 0)
    return inner


def bare(
    views: Sequence[View], number: int, region: np.ndarray, empty: dict[int, np.ndarray], focus: np.ndarray
) -> np.ndarray:
    """(2,) of some pixels of the thing along a region's rim: behind how many there would be nothing, and how many.

    Args:
        views: of all photos.
        number: of the photo.
        region: (height, width) bool of it.
        empty: what photos that are asked, by number, are thought to show nothing in, (height, width) bool.
        focus: (3,) what all cameras look at.
    """
    ndimage, view = image_measures(), views[number]
    near, far = (ndimage.binary_dilation(region, np.ones((3, 3)), iterations=n) for n in (1, 2))
    points, _ = along_ways(view, far & ~near & ~view.plain, focus)
    shown, missed, seen_empty = (np.zeros(len(points)) for _ in range(3))
    others = [k for k in empty if k != number]
    for k in others:
        inside, place = views[k].at(points)
        shown += inside
        missed += inside & ~views[k].solid[place]
        seen_empty += inside & empty[k][place]
    hull = in_hull(shown, missed, len(others)).reshape(-1, STEPS)
    left = hull & (seen_empty < AGREE[0]).reshape(-1, STEPS)
    return np.array([(hull.any(1) & ~left.any(1)).sum(), hull.any(1).sum()], dtype=np.float64)


def shown_by(views: Sequence[View], ways: Ways, asked: Sequence[int]) -> list[Region]:
    """Regions that show most of the middles of ways."""
    middles, found = (ways.near + ways.far) / 2, []
    for k in asked:
        inside, place = views[k].at(middles)
        counts = np.bincount(np.where(inside, views[k].pieces[place], 0))
        number = int(counts.argmax())
        if number > 0 and 2 * counts[number] > len(middles):
            found.append((k, number))
    return found


def without_paint(views: Sequence[View], known: dict[Region, Ways], others: dict[int, list[View]]) -> None:
    """Takes back, in `views` and `known`, what were holes if other photos did not show paint there.

    Args:
        views: of all photos.
        known: ways through each hole, by photo and piece.
        others: the views that are asked about those of each photo.
    """
    while paint := [(k, n) for (k, n), ways in known.items() if painted(ways, others[k]) > PAINTED]:
        for k, number in paint:
            views[k].holes[views[k].pieces == number] = False
            del known[k, number]


def painted(ways: Ways, others: Sequence[View]) -> float:
    """The part of what photos from either side show of the ends of ways in the backdrop's colour that is no known hole
    and not outside."""
    plain = unknown = 0
    for points, side in ((ways.near, -ways.along), (ways.far, ways.along)):
        for other in others:
            inside, place = other.at(points)
            seen = inside & (facing(other, points, side) > BEHIND) & other.plain[place]
            plain += int(seen.sum())
            unknown += int((seen & (other.pieces[place] > 0) & ~other.holes[place]).sum())
    return unknown / max(plain, 1)


def facing(view: View, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(n,) cosines between unit directions from points and those to a camera."""
    back = view.photo.pose[:3, 3] - points
    along, square = np.einsum("ni,ni->n", back, directions), np.einsum("ni,ni->n", back, back)
    cosines: np.ndarray = along / np.maximum(np.sqrt(square), 1e-9)
    return cosines


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 to `count` - 1, evenly among them."""
    found: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    return found


def ways_through(view: View, region: np.ndarray, others: Sequence[View], focus: np.ndarray, sure: bool) -> Ways:
    """The ways of light from the backdrop behind through a region of a photo.

    Args:
        view: the photo.
        region: (height, width) bool.
        others: asked.
        focus: (3,) what all cameras look at.
        sure: they end where others see the backdrop's colour; else in known holes.
    """
    points, along = along_ways(view, region, focus)
    forward = np.repeat(along, STEPS, axis=0)
    shown, missed, behind, agree, empty = (np.zeros(len(points)) for _ in range(5))
    for other in others:
        inside, place = other.at(points)
        shown += inside
        missed += inside & ~other.solid[place]
        back = inside & (facing(other, points, forward) > BEHIND)
        behind += back
        agree += back & other.plain[place]
        empty += inside & other.holes[place]
    hull = in_hull(shown, missed, len(others)).reshape(-1, STEPS)
    through = (agree >= np.maximum(AGREE[0], AGREE[1] * behind)) | (empty >= AGREE[0])
    places, each = points.reshape(-1, STEPS, 3), np.arange(len(along))
    near, far = places[each, hull.argmax(1)], places[each, STEPS - 1 - hull[:, ::-1].argmax(1)]
    ways = (through.reshape(-1, STEPS) | ~hull).all(1) & hull.any(1) & leaves(far, along, others, sure)
    return Ways(along[ways], near[ways], far[ways], float(ways.mean()))


def along_ways(view: View, region: np.ndarray, focus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n STEPS, 3) points on the ways through some pixels of a (height, width) region of a photo, and (n, 3) unit
    directions of these; `focus`: (3,) what all cameras look at."""
    rows, columns = region.nonzero()
    some = spread(len(rows), RAYS)
    along, origin = view.directions(rows[some], columns[some]), view.photo.pose[:3, 3]
    steps = np.linspace(NEAR, FAR, STEPS) * np.linalg.norm(focus - origin)
    return (origin + along[:, None] * steps[:, None]).reshape(-1, 3), along


def in_hull(shown: np.ndarray, missed: np.ndarray, count: int) -> np.ndarray:
    """(n,) bool: which points the hull has, by how many of `count` photos show each, and show outer backdrop there."""
    hull: np.ndarray = (shown >= max(2.0, SHOWN * count)) & (missed <= MISSES * shown)
    return hull


def leaves(points: np.ndarray, along: np.ndarray, others: Sequence[View], sure: bool) -> np.ndarray:
    """(n,) bool: which points where light leaves show the backdrop's colour (not `sure`: a known hole) to one of the
    cameras nearest to opposite."""
    cosines, seen = np.zeros((len(others), len(points))), np.zeros((len(others), len(points)), dtype=bool)
    for k, other in enumerate(others):
        inside, place = other.at(points)
        cosines[k] = np.where(inside, facing(other, points, along), -1.0)
        seen[k] = (other.plain if sure else other.holes)[place] & (cosines[k] > BEHIND)
    nearest = np.argsort(-cosines, axis=0)[:OPPOSITE]
    found: np.ndarray = np.take_along_axis(seen, nearest, axis=0).any(0)
    return found


def looked_at(poses: Sequence[np.ndarray]) -> np.ndarray:
    """The point nearest to the axes of all cameras, (3,)."""
    matrix, right = np.eye(3) * 1e-6, np.zeros(3)
    for pose in poses:
        across = np.eye(3) - np.outer(pose[:3, 2], pose[:3, 2])
        matrix += across
        right += across @ pose[:3, 3]
    point: np.ndarray = np.linalg.solve(matrix, right)
    return point
