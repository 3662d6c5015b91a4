"""Adam whose step is one pass over memory where there is a kernel for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lg_field.ops.backends.cpu.adam import Learned, adam_step, why_not

OTHERWISE = ("weight_decay", "amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay")
"""Options of which the kernel knows only that they are not set."""


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, fused unless asked otherwise: the same options, state and, within rounding, values.

    float32 on a CPU is computed by a kernel of our own, with the same result for any number of threads, to the bit;
    what that does not know, torch computes.
    """

    def __init__(self, params: Any, lr: float = 1e-3, **options: Any) -> None:
        """
        Args:
            params: parameters, or groups of them.
            lr: learning rate.
            options: of `torch.optim.Adam`; `fused=False` does without kernels, torch's too.
        """
        super().__init__(params, lr, **{"fused": True} | options)

    def _init_group(self, group: dict[str, Any], *tensors: list[Tensor]) -> bool:
        """Collect what torch's step changes of a group: nothing, where the kernel has taken it."""
        has_complex = super()._init_group(group, *tensors)
        values, grads, first, second, _, steps = tensors
        learned = Learned(values, grads, first, second, steps)
        if values and self._knows(group) and why_not(learned) is None:
            adam_step(learned, group["lr"], group["betas"], group["eps"])
            for some in tensors:
                some.clear()
        return bool(has_complex)

    def _knows(self, group: dict[str, Any]) -> bool:
        """Whether the kernel may take a group's step as its options are."""
        if not group["fused"] or any(group.get(name) for name in OTHERWISE) or isinstance(group["lr"], Tensor):
            return False
        return getattr(self, "grad_scale", None) is None and getattr(self, "found_inf", None) is None
