"""The global random generators' states as plain numbers and tensors, so that a checkpoint can hold them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """States of torch's (of the CPU and, if it is one, of the GPU `device`), numpy's and Python's generators."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, numbers, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "numbers": [int(position), int(has_gauss), float(cached)],
        },
        "python": {"version": version, "numbers": torch.tensor(numbers), "gauss": gauss},
    }
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def restore_random_state(state: dict[str, Any]) -> None:
    """Inverse of `random_state`; a GPU's is left out where there is none."""
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    position, has_gauss, cached = state["numpy"]["numbers"]
    keys = state["numpy"]["keys"].cpu().numpy().astype(np.uint32)
    np.random.set_state((state["numpy"]["name"], keys, int(position), int(has_gauss), float(cached)))
    python = state["python"]
    random.setstate((python["version"], tuple(python["numbers"].tolist()), python["gauss"]))
