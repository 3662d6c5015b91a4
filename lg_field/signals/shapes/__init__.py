"""Solid bodies: meshes in, voxels of one bit, batches to train on."""
