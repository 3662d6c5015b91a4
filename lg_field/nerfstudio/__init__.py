"""The nerfstudio plugin: the only part of lg-field that imports nerfstudio."""

import numpy as np
import torch

# nerfstudio's schedulers leave numpy scalars in checkpoints, which torch >= 2.6 refuses to load.
torch.serialization.add_safe_globals([np.core.multiarray.scalar, np.dtype, type(np.dtype("float64"))])
