"""Train a scene in Python, without nerfstudio.

Rays and colours come from wherever you have them, here from two painted balls; `lg_field.captures.read_capture(folder)`
reads photos with cameras. Writes `scene.safetensors`, which the next examples read.
"""

import sys
from pathlib import Path

import torch

import lg_field
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.render import orbit
from lg_field.radiance.scene import Scene
from lg_field.radiance.training import RadianceTrainer, TrainingSettings

BALLS = ((-0.5, 0.0, 0.0, 0.36), (0.55, 0.1, 0.0, 0.3))


def colors(origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """(n, 4) straight RGBA of what rays see of the balls: stripes."""
    out = torch.zeros(len(origins), 4)
    for k, (*center, radius) in enumerate(BALLS):
        away = origins - torch.tensor(center)
        half = (away * directions).sum(1)
        root = half.square() - away.square().sum(1) + radius**2
        normal = (away + (-half - root.clamp_min(0).sqrt())[:, None] * directions) / radius
        red = 0.5 + 0.4 * torch.sin(9 * normal[:, 2 - k])
        painted = torch.stack([red, 0.9 - 0.6 * k * red, 0.2 + 0.6 * k - 0 * red, 1 + 0 * red], 1)
        out = torch.where((root > 0)[:, None], painted, out)
    return out


def main(folder: Path, steps: int = 500) -> float:
    torch.manual_seed(0)
    sizes = RadianceSizes(grid_nodes=5, hash_levels=3, occupancy_voxels=4)
    field = RadianceField(lg_field.PartitionGrid((4, 4, 4), (-1.0,) * 3, (1.0,) * 3), sizes)
    scene = Scene(tuple(map(tuple, torch.eye(4).tolist())), step=0.03, focal=1.2)
    views = [c for elevation in (-20, 20, 60) for c in orbit(field, scene, 16, 48, 48, elevation)]
    origins, directions = (torch.cat(parts).view(-1, 3) for parts in zip(*(c.rays() for c in views)))
    truth = colors(origins, directions)
    settings = TrainingSettings(split_steps=(steps // 4,), steps_per_scene=96, samples_per_batch=2**13, unseen_from=80)
    trainer, optimizer = RadianceTrainer(field, settings), torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15)
    for step in range(steps):
        trainer.begin(step, [optimizer])
        chosen = torch.randint(len(origins), (512,))
        losses = trainer.losses(trainer.render(origins[chosen], directions[chosen]), truth[chosen])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    field.description = scene
    lg_field.save(field.eval(), folder / "scene.safetensors", overwrite=True)
    print(f"{field.num_rows} of {field.grid.num_cells} cells, mean squared error {losses['rgb_loss'].item():.4f}")
    return losses["rgb_loss"].item()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
