"""`lg-field compress` and `decompress`: archives of field files, to be kept or sent."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from rich.console import Console

from lg_field.cli.console import say
from lg_field.cli.options import Address, Output, check_outputs
from lg_field.errors import doing


def compress(
    input: Address,
    output: Output,
    dtype: Literal["as-is", "float32", "float16", "bfloat16", "int8"] = "as-is",
    overwrite: bool = False,
) -> None:
    """Pack a field file into an archive: smaller, and bit by bit the same file when it is unpacked.

    Every command that takes a field file takes an archive, and of a region reads only the blocks that hold it. It is
    entropy-coded (LZMA), about a megabyte a second: for keeping and sending, not for every day.

    Args:
        input: field file, or an address fsspec reads.
        output: the archive to write (.lga).
        dtype: first store weights so; this is not lossless. int8 packs best.
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile, crop_file
    from lg_field.files.archive import compress as pack

    check_outputs(overwrite, [output], [input])
    begin = time.perf_counter()
    with doing(f"packing {input}"), TemporaryDirectory() as folder:
        source = input
        with FieldFile.open(input) as file:
            before = file.reader.size
        if dtype != "as-is":
            source = str(Path(folder) / "converted")
            crop_file(input, source, cells=(), invert=True, dtype=dtype)  # no cell less, be it without a row
        size = pack(source, output, overwrite)
    seconds = time.perf_counter() - begin
    say(Console(), f"{output}: {before:,} -> {size:,} bytes ({size / before:.1%}), {seconds:.1f} s")


def decompress(input: Address, output: Output, overwrite: bool = False) -> None:
    """Unpack an archive into the field file it was made of, bit by bit.

    Args:
        input: archive, or an address fsspec reads.
        output: the field file to write (.safetensors).
        overwrite: replace an existing output.
    """
    from lg_field.files.archive import decompress as unpack

    check_outputs(overwrite, [output], [input])
    with doing(f"unpacking {input}"):
        size = unpack(input, output, overwrite)
    say(Console(), f"{output}: {size:,} bytes")
