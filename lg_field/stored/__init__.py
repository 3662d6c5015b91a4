"""Fields whose rows are not in memory: in a field file that is read as far as it is looked at, in host memory, on disk.

Which voxels hold something, and the shared part, are in memory as ever. Rays find the cells that they pass through;
their rows are gathered when they are asked, and what they say is to the bit what a field with all rows says.
"""
