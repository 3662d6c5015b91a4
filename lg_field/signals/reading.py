"""Files in."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lg_field.signals.data import Samples
from lg_field.signals.inputs import as_file
from lg_field.signals.parts import split_part
from lg_field.signals.registry import kind_to_read
from lg_field.signals.settings import ShapeConfig

HERE = Path(__file__).parents[1]


def read_signal(
    path: str | os.PathLike[str], shape: ShapeConfig | None = None, kind: str = "", format: str = ""
) -> Samples:
    """Read an image, a sound, a video, an array, a scan or a mesh: whatever some kind of signal reads.

    Args:
        path: the file, see `registry.readable_suffixes`; a part of it, see `parts`; a folder of DICOM slices; a pipe,
            or `-` for standard input.
        shape: how a mesh becomes voxels.
        kind: name of the kind to read it as; "" = what its name and content say.
        format: suffix of its format; "" = that of its name, of standard input what its first bytes say.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a kind of file that is read, a broken one, one that memory does not hold; a folder or device.
        ImportError: a library is missing that reads it.
    """
    with as_file(Path(path), format) as given:
        file = split_part(given)[0]
        if not file.exists():
            raise FileNotFoundError(f"{given} does not exist")
        if not (file.is_file() or file.is_dir()):
            raise ValueError(f"{given}, a device, cannot be read: save it to a file first")
        with naming_file(given):
            return kind_to_read(given, kind).read(given, shape or ShapeConfig())


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Context: an error names the file that is read, and whatever a library raises says that the file is broken.

    Raises:
        ValueError: for these errors, and where memory is too small.
        ImportError: as it is.
    """
    try:
        yield
    except ImportError:
        raise
    except MemoryError as error:
        raise ValueError(f"{path} is too large for the memory there is: {error or 'out of memory'}") from error
    except Exception as error:
        words = " ".join(str(error).split())
        if re.search(rf"(?<!\w){re.escape(str(path))}(?!\w)", words) and isinstance(error, (ValueError, OSError)):
            raise
        if isinstance(error, ValueError) and _raised_here(error):
            raise ValueError(f"{path}: {words}") from error
        if _raised_here(error):
            raise
        raise ValueError(f"{path} is broken: {words[:300] or type(error).__name__}") from error


def _raised_here(error: BaseException) -> bool:
    """Whether it is our own code that raised an error, not a library."""
    return HERE in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parents
