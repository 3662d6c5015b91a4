"""Radiance fields: frame, occupancy, field, sampling, compositing, rendering. Knows no nerfstudio."""
