"""Space: the partition grid, regions of it, and the one rule of which cell owns a point or a sample."""
