"""Functions run by several processes of torch.distributed (gloo) on this machine, and what they return.

The processes are forked by a server that has imported what they need once, so that each takes no time to start.
"""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import patch

if "lg_field" not in sys.modules:
    from jaxtyping import install_import_hook

    install_import_hook("lg_field", "typecheck.checked")

import torch
import torch.distributed as dist

from lg_field.distributed.trainer import RankTrainer  # noqa: F401  (the server imports it for its children)

TIMEOUT = datetime.timedelta(seconds=120)


def _run(rank: int, size: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    try:
        store = dist.FileStore(f"{folder}/store", size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        result: Any = function(*arguments)
        torch.save(result, f"{folder}/{rank}.pt")
        dist.barrier()
    except BaseException:
        Path(folder, f"{rank}.txt").write_text(traceback.format_exc())
        os._exit(1)
    with contextlib.suppress(Exception):
        dist.destroy_process_group()


def on_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function of a module returns on each of `size` ranks; an error there is one here."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["on_ranks"])
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # else the server finds no module of the tests
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        workers = [context.Process(target=_run, args=(rank, size, folder, function, arguments)) for rank in range(size)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(200)
        for worker in workers:
            if worker.is_alive():
                worker.kill()
        errors = [path.read_text() for path in sorted(Path(folder).glob("*.txt"))]
        assert not errors, "\n".join(errors)
        assert all(worker.exitcode == 0 for worker in workers), [worker.exitcode for worker in workers]
        return [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(size)]
