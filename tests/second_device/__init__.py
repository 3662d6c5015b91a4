"""A second device that needs no GPU: see device.cpp. It is called `second`, and is there once `available` was asked."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch

NAME = "second"
SOURCE = Path(__file__).with_name("device.cpp")
FLAGS = ["-std=c++20", "-O1", "-shared", "-fPIC", "-w"]


@dataclass
class Counts:
    """What the device was asked to do in a `counted` block."""

    launches: dict[str, int] = field(default_factory=dict)
    """Operations by name."""
    waits: dict[str, int] = field(default_factory=dict)
    """Those after which a GPU's host would have waited."""
    bytes: int = 0
    """Memory taken at most at a time, beside what was taken before."""

    @property
    def total(self) -> tuple[int, int]:
        """Launches and waits."""
        return sum(self.launches.values()), sum(self.waits.values())


@functools.cache
def available() -> str | None:
    """Register the device; one line that says why there is none, else None."""
    if _compiler() is None:
        return "the second device needs a C++ compiler"
    try:
        _built()
    except subprocess.CalledProcessError as error:
        return f"the second device cannot be built: {error.stderr[-3000:]}"
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    return None


@functools.cache
def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)


@functools.cache
def _built() -> ctypes.CDLL:
    """Built in about half a minute, once for each source and torch."""
    compiler = _compiler()
    assert compiler is not None

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lg-field"
    key = hashlib.sha256("\n".join([SOURCE.read_text(), torch.__version__, compiler, *FLAGS]).encode()).hexdigest()[:20]
    path = cache / f"second-device-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            result = Path(folder, path.name)
            home = Path(torch.__file__).parent
            where = [f"-I{home}/include", f"-I{home}/include/torch/csrc/api/include", f"-L{home}/lib"]
            abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"
            command = [compiler, *FLAGS, abi, *where, str(SOURCE), "-o", str(result), "-ltorch_cpu", "-lc10"]
            subprocess.run(command, capture_output=True, text=True, check=True)
            result.replace(path)
    library = ctypes.CDLL(str(path))
    for name in ("counts", "random", "peak", "held"):
        getattr(library, f"second_device_{name}").restype = ctypes.c_int64
    library.second_device_counts.argtypes = [ctypes.c_int32, ctypes.c_char_p, ctypes.c_int64]
    library.second_device_random.argtypes = [ctypes.c_int32, ctypes.c_void_p]
    library.second_device_seed.argtypes = [ctypes.c_uint64]
    return library


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Count what the device is asked to do in the block."""
    library, counts = _built(), Counts()
    library.second_device_reset()
    library.second_device_peak()
    before = library.second_device_held()
    yield counts
    counts.bytes = library.second_device_peak() - before
    for which, found in enumerate((counts.launches, counts.waits)):
        buffer = ctypes.create_string_buffer(library.second_device_counts(which, None, 0))
        library.second_device_counts(which, buffer, len(buffer))
        found.update((name, int(n)) for name, n in (line.split("\t") for line in buffer.raw.decode().splitlines()))


def get_rng_state(device: object = None) -> torch.Tensor:
    """The default generator's state, uint8 on the CPU."""
    state = torch.empty(_built().second_device_random(0, None), dtype=torch.uint8)
    _built().second_device_random(0, state.data_ptr())
    return state


def set_rng_state(state: torch.Tensor, device: object = None) -> None:
    """Inverse of `get_rng_state`."""
    size = _built().second_device_random(0, None)
    if state.device.type != "cpu" or state.dtype != torch.uint8 or state.numel() != size:
        raise RuntimeError(f"a state is {size} bytes on the CPU, got {state.numel()} {state.dtype} on {state.device}")
    _built().second_device_random(1, state.contiguous().data_ptr())


def _seed(seed: int) -> None:
    _built().second_device_seed(seed)


def _module() -> ModuleType:
    """What torch asks a device's module for: `torch.second`."""
    module = ModuleType(f"torch.{NAME}")
    stream = SimpleNamespace(synchronize=lambda: None)  # the only one: everything is done when it returns
    names = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "current_stream": lambda device=None: stream,
        "stream": contextlib.nullcontext,
        "manual_seed_all": _seed,
        "manual_seed": _seed,
        "get_rng_state": get_rng_state,
        "set_rng_state": set_rng_state,
        "get_amp_supported_dtype": lambda: [torch.float16, torch.bfloat16],
    }
    for name, function in names.items():
        setattr(module, name, function)
    return module
