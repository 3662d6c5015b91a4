"""Which scene files stand where in one scene: the JSON of a composition, checked alike when written and when read.

It holds names, paths and numbers, nothing else: a composition from a stranger is data, as its scene files are.
"""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lg_field.files.atomic import atomic_write
from lg_field.files.container import FileError, parse_json
from lg_field.files.ranges import open_ranges
from lg_field.space.regions import Region, region_from_dict
from lg_field.space.regions.similarity import Similarity

FORMAT = "lg-field composition"
VERSION = 1
SUFFIX = ".json"
"""Ends the name of every composition: by it commands tell one from a scene file."""
MAX_PARTS = 256
MAX_BYTES = 1 << 20
MAX_NAME, MAX_FILE = 100, 1000
LARGEST = 1e6
"""Bound on every number."""
LOCAL_SCHEMES = ("file", "local")

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """Where a part stands: its scene units are scaled, then turned, then moved."""

    move: Triple = (0.0, 0.0, 0.0)
    """Shift, units of the composition."""
    turn: Triple = (0.0, 0.0, 0.0)
    """Degrees about the x, then the y, then the z axis."""
    scale: float = 1.0
    """Units of the composition per scene unit of the part."""

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that make no sense."""
        for name in ("move", "turn"):
            object.__setattr__(self, name, _triple(getattr(self, name), name))
        if type(self.scale) not in (int, float) or not 1.0 / LARGEST <= self.scale <= LARGEST:
            raise ValueError(f"scale must be a number from {1 / LARGEST:g} to {LARGEST:g}, got {str(self.scale)[:40]}")
        object.__setattr__(self, "scale", float(self.scale))

    def similarity(self) -> Similarity:
        """From the part's scene space to the composition's."""
        return Similarity.placing(self.move, self.turn, self.scale)

    def to_dict(self) -> dict[str, Any]:
        """The numbers that differ from a part left where it is."""
        plain = {"move": list(self.move), "turn": list(self.turn), "scale": self.scale}
        still = {"move": [0.0] * 3, "turn": [0.0] * 3, "scale": 1.0}
        return {name: value for name, value in plain.items() if value != still[name]}


@dataclass(frozen=True)
class PartEntry:
    """One part of a composition."""

    name: str
    """Unlike any other part's."""
    file: str
    """Path relative to the composition's folder, with forward slashes; or an address that fsspec reads."""
    place: Place = field(default_factory=Place)
    region: Region | None = None
    """What of it is shown, within what its file shows, in its own scene units; None = everything."""
    shown: bool = True
    """False: nothing of it is; it is there for what the first part says of the whole."""

    def __post_init__(self) -> None:
        """Raise ValueError for a name, a file or a region that may not be."""
        for name, value, most in (("name", self.name, MAX_NAME), ("file", self.file, MAX_FILE)):
            if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
                raise ValueError(f"a part's {name} must be text of 1 to {most} characters, got {str(value)[:40]!r}")
        check_file(self.file)
        if self.region is not None:
            self.region.check_dim(3, "a part has")
        if type(self.shown) is not bool:
            raise ValueError(f"whether a part is shown is true or false, got {str(self.shown)[:40]!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        data = {"name": self.name, "file": self.file, **self.place.to_dict()}
        data |= {} if self.region is None else {"region": self.region.to_dict()}
        return data if self.shown else data | {"shown": False}

    @staticmethod
    def from_dict(data: Any) -> PartEntry:
        """Inverse of `to_dict`.

        Raises:
            ValueError: unknown, missing or senseless entries.
        """
        known = {"name", "file", "move", "turn", "scale", "region", "shown"}
        _check_entries(data, "a part", {"name", "file"}, known)
        return PartEntry(
            data["name"],
            data["file"],
            Place(**{k: data[k] for k in ("move", "turn", "scale") if k in data}),
            region_from_dict(data["region"]) if data.get("region") is not None else None,
            data.get("shown", True),
        )


@dataclass(frozen=True)
class Arrangement:
    """A composition as its file says it; nothing of its parts has been read."""

    parts: tuple[PartEntry, ...]
    region: Region | None = None
    """The exact region shown, units of the composition; None = everything."""
    background: Triple | None = None
    """Colour behind everything, [0, 1]; None = the first part's."""

    def __post_init__(self) -> None:
        """Raise ValueError for what makes no sense as a whole."""
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise ValueError(f"a composition has 1 to {MAX_PARTS} parts, got {len(self.parts):,}")
        names = [part.name for part in self.parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two parts are called {twice!r}: each needs a name of its own")
        if self.region is not None:
            self.region.check_dim(3, "a composition has")
            self.region.moved(Place().similarity())
        if self.background is not None:
            background = _triple(self.background, "background")
            if not all(0.0 <= v <= 1.0 for v in background):
                raise ValueError(f"background must be three numbers from 0 to 1, got {list(background)}")
            object.__setattr__(self, "background", background)

    def placed(self, name: str, place: Place) -> Arrangement:
        """With one part elsewhere.

        Raises:
            ValueError: no part of this name.
        """
        names = [part.name for part in self.parts]
        if name not in names:
            raise ValueError(f"there is no part {name!r}: the parts are {', '.join(names)}"[:400])
        parts = tuple(replace(part, place=place) if part.name == name else part for part in self.parts)
        return replace(self, parts=parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "parts": [part.to_dict() for part in self.parts]}
        data |= {} if self.region is None else {"region": self.region.to_dict()}
        return data | ({} if self.background is None else {"background": list(self.background)})

    @staticmethod
    def from_dict(data: Any) -> Arrangement:
        """Inverse of `to_dict`, for data from anyone.

        Raises:
            ValueError: another format or version; unknown, missing or senseless entries.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f'it is no composition: it needs "format": "{FORMAT}"')
        if data.get("version") != VERSION or type(data["version"]) is not int:
            got = str(data.get("version"))[:40]
            raise ValueError(f"this lg-field reads compositions of version {VERSION}, got {got}")
        needed = {"format", "version", "parts"}
        _check_entries(data, "a composition", needed, needed | {"region", "background"})
        if not isinstance(data["parts"], list) or len(data["parts"]) > MAX_PARTS:
            raise ValueError(f"the parts must be a list of at most {MAX_PARTS}")
        region = data.get("region")
        return Arrangement(
            tuple(PartEntry.from_dict(part) for part in data["parts"]),
            None if region is None else region_from_dict(region),
            data.get("background"),
        )


def read_arrangement(path: str) -> Arrangement:
    """Read the JSON of a composition.

    Args:
        path: local file, or an address fsspec reads.

    Raises:
        FileNotFoundError: no such file.
        FileError: no composition, or a damaged one, in one line.
    """
    with open_ranges(path) as ranges:
        text = ranges.read(0, MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise FileError(f"{path} is no composition: those have at most {MAX_BYTES:,} bytes")
    data = parse_json(bytes(text), path)
    try:
        return Arrangement.from_dict(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: {error}") from error


def write_arrangement(arrangement: Arrangement, path: Path, overwrite: bool = False) -> int:
    """Write the JSON of a composition; returns its bytes.

    Raises:
        FileExistsError: the file exists and overwrite is False.
        ValueError: what `read_arrangement` would refuse.
    """
    text = json.dumps(arrangement.to_dict(), indent=1, allow_nan=False) + "\n"
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"the composition takes {len(text):,} bytes; at most {MAX_BYTES:,} can be read again")
    Arrangement.from_dict(json.loads(text))
    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(text)
    return len(text.encode())


def is_composition(name: str) -> bool:
    """Whether a path or an address is that of a composition: its name says so."""
    return name.split("?")[0].split("#")[0].lower().endswith(SUFFIX) if "://" in name else name.lower().endswith(SUFFIX)


def check_file(file: str) -> None:
    """Raise ValueError unless a part's file is a relative path or an address."""
    if "://" in file:
        scheme = file.split("://")[0].lower()
        if "::" in file or scheme in LOCAL_SCHEMES or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
            raise ValueError(f"a part's file is a relative path or one plain address, got {file[:80]!r}")
    elif file.startswith(("/", "~", "\\")) or re.match(r"[A-Za-z]:", file):
        raise ValueError(f"a part's file is relative to the composition's folder, got the path {file[:80]!r}")


def located(file: str, composition: str) -> str:
    """The path or address of a part.

    Args:
        file: as the composition says it.
        composition: the path or address where that was read.

    Raises:
        ValueError: a path that leads out of the folder of an address.
    """
    if "://" in file:
        return file
    if "://" not in composition:
        return os.path.normpath(os.path.join(os.path.dirname(composition), file))
    path = posixpath.normpath(file)
    if path.startswith(".."):
        raise ValueError(f"{composition}: the part {file[:80]!r} lies outside its folder; name it by its whole address")
    return composition.split("?")[0].rsplit("/", 1)[0] + "/" + path


def relative_to(file: str, composition: Path) -> str:
    """How a composition says where a part is: addresses as they are, paths relative to its folder."""
    if "://" in file:
        return file
    return Path(os.path.relpath(os.path.abspath(file), os.path.abspath(composition.parent))).as_posix()


def _triple(values: Any, name: str) -> Triple:
    """Three finite numbers that are not too large.

    Raises:
        ValueError: anything else.
    """
    good = isinstance(values, (list, tuple)) and len(values) == 3
    if not good or not all(type(v) in (int, float) and math.isfinite(v) and abs(v) <= LARGEST for v in values):
        raise ValueError(f"{name} must be three finite numbers of at most {LARGEST:g}, got {str(values)[:60]}")
    a, b, c = map(float, values)
    return a, b, c


def _check_entries(data: Any, what: str, needed: set[str], known: set[str]) -> None:
    """Raise ValueError unless a JSON object has all entries that are needed, and only known ones."""
    if not isinstance(data, dict) or not needed <= data.keys() <= known:
        got = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{what} needs the entries {sorted(needed)} and may have {sorted(known)}, got {got}"[:400])
