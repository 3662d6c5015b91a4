"""The nerfstudio plugin: the only part of lg-field that imports nerfstudio."""

from typing import Any

import numpy as np
import torch

# nerfstudio's schedulers leave numpy scalars in checkpoints, which torch >= 2.6 refuses to load.
_scalar: Any = np.float64(0).__reduce__()[0]  # numpy's `scalar`, wherever this version keeps it
torch.serialization.add_safe_globals([_scalar, np.dtype, type(np.dtype("float64"))])
