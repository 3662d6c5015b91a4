"""A field is a PyTorch module: use it in a loop, with a loss, of your own.

Here it learns a function of two variables from its slope, through a second derivative, and from few of its values, as
one would for an equation of physics. The backend "reference" is the one that can be differentiated twice.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

import lg_field
from lg_field.networks import local_global_siren


def truth(points: torch.Tensor) -> torch.Tensor:
    """(n, 2) points -> (n, 1) sin(3 x) cos(2 y)."""
    return (torch.sin(3 * points[:, 0]) * torch.cos(2 * points[:, 1]))[:, None]


def slope(points: torch.Tensor) -> torch.Tensor:
    """(n, 2) its gradient."""
    x, y = points.unbind(1)
    return torch.stack([3 * torch.cos(3 * x) * torch.cos(2 * y), -2 * torch.sin(3 * x) * torch.sin(2 * y)], 1)


def main(folder: Path, steps: int = 500) -> float:
    torch.manual_seed(0)
    grid = lg_field.PartitionGrid((2, 2), (-1.0, -1.0), (1.0, 1.0))
    field = local_global_siren(grid, out_features=1, local_width=12, global_width=12, hidden_layers=1, w0=6.0)
    optimizer = torch.optim.Adam(field.parameters(), lr=2e-3)
    known = torch.rand(100, 2) * 2 - 1
    for _ in range(steps):
        points = (torch.rand(512, 2) * 2 - 1).requires_grad_()
        value = field(points, backend="reference")
        (gradient,) = torch.autograd.grad(value.sum(), points, create_graph=True)
        loss = (gradient - slope(points.detach())).square().mean()
        loss = loss + 10 * (field(known, backend="reference") - truth(known)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss: {float(loss.detach()):.4f}")

    quarter = lg_field.crop(field, lg_field.Region.box((0, 0), (1, 1)))  # an ordinary field afterwards
    lg_field.save(quarter, folder / "quarter.safetensors", overwrite=True)
    axis = torch.linspace(-1, 1, 200)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    with torch.no_grad():
        pictures = torch.cat([field(points), quarter(points)], 1)[..., 0]
    shown = (pictures - pictures.min()) / (pictures.max() - pictures.min())
    Image.fromarray((shown * 255).byte().numpy()).save(folder / "08_in_your_own_loop.png")
    return float(loss.detach())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
