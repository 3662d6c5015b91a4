"""Rays of training pixels are nerfstudio's."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.model_components.ray_generators import RayGenerator

from lg_field.nerfstudio.rays import CLOSE, PixelRays
from lg_field.training.lenses import undistorted

LENSES = {"none": None, "zero": [0.0] * 6, "lens": [0.12, -0.06, 0.01, -0.004, 0.002, -0.003]}


def cameras(lens: list[float] | None, kind: CameraType = CameraType.PERSPECTIVE) -> Cameras:
    """Three cameras of 40 x 30 pixels, turned and moved at random."""
    torch.manual_seed(0)
    turned = torch.linalg.qr(torch.randn(3, 3, 3)).Q
    return Cameras(
        camera_to_worlds=torch.cat([turned, torch.randn(3, 3, 1)], dim=2),
        fx=torch.tensor([[30.0], [35.0], [40.0]], dtype=torch.float64),
        fy=torch.tensor([[31.0], [33.0], [42.0]]),
        cx=torch.tensor([[20.0], [19.0], [21.5]]),
        cy=torch.tensor([[15.0], [14.0], [15.5]]),
        width=40,
        height=30,
        distortion_params=None if lens is None else torch.tensor([lens] * 3),
        camera_type=kind,
    )


@pytest.mark.parametrize("kind", [CameraType.PERSPECTIVE, CameraType.FISHEYE])
@pytest.mark.parametrize("lens", LENSES)
def test_rays_are_those_of_nerfstudio(lens: str, kind: CameraType) -> None:
    chosen = torch.stack([torch.randint(n, (500,)) for n in (3, 30, 40)], dim=1)
    ours, theirs = (make(cameras(LENSES[lens], kind))(chosen) for make in (PixelRays, RayGenerator))
    torch.testing.assert_close(ours.origins, theirs.origins)
    torch.testing.assert_close(ours.directions, theirs.directions, rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.metadata["directions_norm"], theirs.metadata["directions_norm"], rtol=1e-5, atol=0)
    assert torch.equal(ours.camera_indices, theirs.camera_indices) and ours.shape == theirs.shape
    assert (ours.pixel_area is None) == (kind is CameraType.PERSPECTIVE)


def test_a_lens_that_is_taken_away_puts_points_back() -> None:
    torch.manual_seed(0)
    x, y = points = torch.rand(2, 300) - 0.5
    k1, k2, k3, k4, p1, p2 = LENSES["lens"]
    r = x.square() + y.square()
    scale = 1 + k1 * r + k2 * r**2 + k3 * r**3 + k4 * r**4
    bent = x * scale + 2 * p1 * x * y + p2 * (r + 2 * x * x), y * scale + 2 * p2 * x * y + p1 * (r + 2 * y * y)
    found = undistorted(torch.stack(bent, dim=1), torch.tensor([LENSES["lens"]] * 300), CLOSE)
    torch.testing.assert_close(found, points.T, rtol=0, atol=1e-6)
