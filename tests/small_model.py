"""A small plugin model that was never trained, and rays through it."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox

from lg_field.nerfstudio.model import LGModel, LGModelConfig
from lg_field.radiance.field import RadianceSizes


def make_model(photos: int = 4, **options) -> LGModel:
    torch.manual_seed(0)
    sizes = {"local_width": 8, "global_width": 16, "grid_nodes": 4, "hash_levels": 2, "hash_base_res": 2}
    shape = RadianceSizes(**sizes, log2_hashmap_size=5, occupancy_voxels=4, density_bias=0.5)
    config = LGModelConfig(sizes=shape, counts=(2, 2, 2), split_steps=(3,), **options)
    box = SceneBox(torch.tensor([[-1.5] * 3, [1.5] * 3]))
    return LGModel(config, scene_box=box, num_train_data=photos, metadata={"bounded": True})


def bundle(count: int = 32) -> RayBundle:
    generator = torch.Generator().manual_seed(0)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 4
    directions = torch.nn.functional.normalize(torch.rand(count, 3, generator=generator) - 0.5 - origins, dim=-1)
    return RayBundle(origins, directions, torch.ones(count, 1), camera_indices=torch.zeros(count, 1, dtype=torch.long))
