"""Meshes: marching cubes near the surface only, clean-up, comparison with a source, pictures."""
