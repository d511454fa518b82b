"""A face of 49 landmarks for tests."""

import torch


def face(shift: float = 0.0) -> torch.Tensor:
    """Upright landmarks (49, 2) on a grid of our own: only the points that alignment and centres use are placed."""
    torch.manual_seed(4)
    points = torch.rand(49, 2) * 20 + 90
    points[19:25] = torch.tensor([70.0, 80.0]) + torch.randn(6, 2)
    points[25:31] = torch.tensor([130.0, 80.0]) + torch.randn(6, 2)
    points[22], points[25] = torch.tensor([84.0, 80.0]), torch.tensor([116.0, 80.0])
    points[13] = torch.tensor([100.0, 110.0])
    points[31], points[37] = torch.tensor([80.0, 140.0]), torch.tensor([120.0, 140.0])
    return points + shift
