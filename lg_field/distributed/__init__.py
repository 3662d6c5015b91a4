"""Rows on many processes: who owns which cell, what rays gather from the owners, checkpoints of any number of ranks.

Every rank is a process of torch.distributed. It holds the rows of its own cells with their optimizer state; the shared
part, and which voxels hold something, are everywhere. All ranks draw the same random numbers and march all rays of a
step, but ask the field only where they own it. What a ray sees is composited of runs of samples by owner, so that the
result is that of one process: losses, gradients, splits, prunings and occupancy, up to the rounding of sums.
"""

SHARDS = ".shards"
"""Ends the name of a folder that holds a checkpoint written by ranks (`shards.py`)."""
