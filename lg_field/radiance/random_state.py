"""The global random generators' states as plain numbers and tensors, so that a checkpoint can hold them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """States of torch's (of the CPU and, if it is another one, of `device`), numpy's and Python's generators."""
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
    if device.type == "cpu":
        return state
    return state | {"device": device.type, device.type: torch.get_device_module(device).get_rng_state(device).cpu()}


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Inverse of `random_state`; the state of another kind of device than `device` is left out."""
    torch.set_rng_state(state["torch"].cpu())
    if device.type != "cpu" and device.type in state:
        torch.get_device_module(device).set_rng_state(state[device.type].cpu(), device)
    position, has_gauss, cached = state["numpy"]["numbers"]
    keys = state["numpy"]["keys"].cpu().numpy().astype(np.uint32)
    np.random.set_state((state["numpy"]["name"], keys, int(position), int(has_gauss), float(cached)))
    python = state["python"]
    random.setstate((python["version"], tuple(python["numbers"].tolist()), python["gauss"]))


def drawn_on(state: dict[str, Any]) -> str:
    """The kind of device that a state is of: its training drew random numbers there."""
    return str(state.get("device", "cuda" if "cuda" in state else "cpu"))


def other_numbers(state: dict[str, Any], device: torch.device) -> list[str]:
    """A line if random numbers on a device go on otherwise than where the states are of."""
    if drawn_on(state) == device.type:
        return []
    return [
        f"the checkpoint is of training on {drawn_on(state)}: on {device.type} it goes on with other random numbers"
    ]
