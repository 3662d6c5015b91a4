"""What nerfbaselines knows of the method; it imports this module by the entry point `nerfbaselines.specs`."""

from __future__ import annotations

from typing import Any

from nerfbaselines import register

SPEC: dict[str, Any] = {
    "id": "lg-field",
    "method_class": "lg_field.nerfbaselines.method:LGFieldMethod",
    "metadata": {
        "name": "lg-field",
        "description": "A radiance field of one small network per cell and one shared network, joined at every layer. "
        "A part of it is cut out by selecting rows: smaller in proportion, without retraining.",
        "paper_title": "Towards Croppable Implicit Neural Representations",
        "paper_authors": ["M. Ashkenazi", "E. Treister"],
        "paper_link": "https://arxiv.org/pdf/2409.19472.pdf",
        "licenses": [{"name": "Apache 2.0"}],
    },
    "presets": {
        "blender": {"@apply": [{"dataset": "blender"}], "space": "bounded"},
        "mipnerf360": {"@apply": [{"dataset": "mipnerf360"}], "space": "contracted", "steps": 20_000},
        "tiny": {"@description": "Small, for CPUs and first tries.", "method": "lg-field-tiny"},
    },
    "implementation_status": {"blender": "working", "mipnerf360": "working"},
}
"""The method."""

register(SPEC)
