"""ns-train with the table's rows on several processes.

    torchrun --nproc-per-node N -m lg_field.nerfstudio.train lg-field --data SCENE ...

Options are those of `ns-train`. Every rank keeps some cells with their optimizer state, on GPUs where there are any;
the first one writes config.yml, progress and tensorboard. Checkpoints are folders `step-*.shards`, from which any
number of ranks goes on with `--load-dir`; nerfstudio's own commands find them joined to one file.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import tyro
import yaml

from lg_field.distributed.ranks import Ranks, in_torchrun
from lg_field.errors import report, traceback_wanted

COMMAND = "torchrun --nproc-per-node N -m lg_field.nerfstudio.train lg-field --data SCENE"
PROG = "lg-field train"
GO_ON = "--load-dir goes on from the last checkpoint"


def main() -> None:
    """Entry point of each rank."""
    if not in_torchrun():
        print(f"{PROG}: ranks are started by torchrun: {COMMAND}", file=sys.stderr)
        raise SystemExit(2)
    watch_for_end()
    rank = int(os.environ["RANK"])
    try:
        start_group()
        run(Ranks())
        dist.barrier()
        dist.destroy_process_group()
    except SystemExit:
        raise
    except BaseException as error:
        end_with(error, rank)


def start_group() -> None:
    """Join the others: gloo on CPUs, nccl on GPUs."""
    from datetime import timedelta

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=timedelta(minutes=10))


def run(ranks: Ranks) -> None:
    """Train.

    Raises:
        UserError: options that ranks cannot follow, or about which they disagree.
    """
    from nerfstudio.utils.rich_utils import CONSOLE

    from lg_field.nerfstudio.rank_run import RankModel, RankRun, check_options

    CONSOLE.quiet = ranks.rank > 0
    config = options(ranks)
    check_options(config)
    config.timestamp = ranks.share(config.timestamp)
    config.set_experiment_name()
    ranks.agree(yaml.dump(config), "the options")
    if ranks.rank == 0:
        config.print_to_terminal()
        config.save_config()
    config.pipeline.model._target = RankModel
    seed = config.machine.seed
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    trainer = RankRun(config, ranks)
    trainer.setup()
    trainer.train()


def options(ranks: Ranks) -> Any:
    """The configuration that this rank's arguments ask for; the first rank alone says what is wrong with them."""
    from nerfstudio.configs.config_utils import convert_markup_to_ansi

    from lg_field.nerfstudio.config import lg_field, lg_field_tiny

    methods = {method.config.method_name: method for method in (lg_field, lg_field_tiny)}
    union: Any = tyro.extras.subcommand_type_from_defaults(
        {str(name): method.config for name, method in methods.items()},
        descriptions={str(name): method.description for name, method in methods.items()},
    )
    if ranks.rank > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        warnings.simplefilter("ignore")  # what is to be said, the first rank says
    try:
        as_ns_train = (tyro.conf.SuppressFixed, tyro.conf.FlagConversionOff)
        config: Any = tyro.cli(union, description=convert_markup_to_ansi(__doc__), prog=PROG, config=as_ns_train)
    except SystemExit as end:
        if ranks.rank > 0 and end.code:
            time.sleep(30.0)  # torchrun ends this rank once the first one has said what is wrong
        raise
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    if config.load_config:
        config = yaml.load(config.load_config.read_text(), Loader=yaml.Loader)
    if config.data:
        config.pipeline.datamanager.data = config.data
    if config.timestamp == "{timestamp}":
        config.set_timestamp()
    return config


# -- the end


def watch_for_end() -> None:
    """End this process at once when it is asked to, also while it waits for other ranks: what is on disk is whole."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        if os.environ["RANK"] == "0" and first_to_fail():
            say(f"stopped (by SIGTERM, or because another rank ended); {GO_ON}")
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


_said = threading.Lock()


def say(line: str) -> None:
    """One line on standard error; a process says one only."""
    if _said.acquire(blocking=False):
        os.write(2, f"{PROG}: {' '.join(line.split())}\n".encode())


def end_with(error: BaseException, rank: int) -> None:
    """End this rank, and with it all: the first one that fails says why, in a line."""
    interrupted = isinstance(error, KeyboardInterrupt)
    line = "interrupted" if interrupted else report(error)
    if traceback_wanted() or line is None:
        traceback.print_exc()
    lost = isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "peer", "Store"))
    if rank > 0 and not lost:
        time.sleep(0.5)  # what all ranks find wrong, the first one says
    if first_to_fail():
        where = "" if rank == 0 else f"rank {rank}: "
        say(where + (f"another rank ended or does not answer; {GO_ON}" if lost else line or type(error).__name__))
    sys.stderr.flush()
    os._exit(130 if interrupted else 1)


def first_to_fail() -> bool:
    """Whether no other rank has said why it ended; True where the ranks cannot be asked any more."""
    found = [True]

    def ask() -> None:
        try:
            store = dist.distributed_c10d._get_default_store()
            found[0] = store.add("lg_field ended", 1) == 1
        except Exception:  # whatever a store raises whose host is gone
            return

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5.0)
    return found[0]


if __name__ == "__main__":
    main()
