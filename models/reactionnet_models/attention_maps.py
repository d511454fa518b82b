"""Where an action unit is to be seen: AAR's predefined attention maps (Fig. 4, Eq. 1 and 2) from 49 landmarks.

Each action unit has two centres, given by two landmarks and a shift along y in units of the distance of the inner eye
corners. Values for all action units of BP4D, DISFA, GFT and Aff-Wild2. Letters: N pictures, M action units, H, W of a map.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

INNER_EYE_CORNERS = (22, 25)
# Action unit: first landmark, second landmark, shift downwards.
CENTRES: dict[int, tuple[int, int, float]] = {
    1: (4, 5, -1 / 2), 2: (1, 8, -1 / 3), 4: (2, 7, 1 / 3), 6: (24, 29, 1.0), 7: (21, 26, 0.0), 9: (15, 17, -1 / 2),
    10: (43, 45, 0.0), 12: (31, 37, 0.0), 14: (31, 37, 0.0), 15: (31, 37, 0.0), 17: (39, 41, 1 / 2), 23: (34, 40, 0.0),
    24: (34, 40, 0.0), 25: (34, 40, 0.0), 26: (39, 41, 1 / 2),
}  # fmt: skip


@lru_cache(maxsize=32)
def _table(aus: tuple[int, ...]) -> tuple[list[list[int]], list[float]]:
    if unknown := [au for au in aus if au not in CENTRES]:
        raise ValueError(
            f"no attention centre is defined for action units {unknown}; known: {', '.join(map(str, CENTRES))}"
        )
    return [list(CENTRES[au][:2]) for au in aus], [CENTRES[au][2] for au in aus]


def au_centres(landmarks_N492: Tensor, aus: Sequence[int]) -> Tensor:
    """Both centres of each action unit, x and y in the landmarks' pixels: (N, M, 2, 2). ValueError for an unknown unit."""
    points, shifts = _table(tuple(aus))
    ruler_N = (landmarks_N492[:, INNER_EYE_CORNERS[0], 0] - landmarks_N492[:, INNER_EYE_CORNERS[1], 0]).abs()
    centres_NM22 = landmarks_N492[:, torch.tensor(points, device=landmarks_N492.device)]
    down_NM = ruler_N[:, None] * landmarks_N492.new_tensor(shifts)
    return centres_NM22 + torch.stack([torch.zeros_like(down_NM), down_NM], -1)[:, :, None]


def attention_maps(centres_NM22: Tensor, *, image_size: int, map_size: int, delta: float) -> Tensor:
    """Eq. 1 and 2: Gaussians of deviation `delta` (pixels of the map) about both centres, the larger of the two.

    (N, M, map_size, map_size). A centre lies in the middle of a pixel of the map: floor(x / image * map + 0.5). A
    Gaussian is the product of its rows and columns, so that no map is visited pixel by pixel.
    """
    place_NM22 = (centres_NM22 / image_size * map_size + 0.5).floor()
    axis = torch.arange(map_size, device=centres_NM22.device, dtype=centres_NM22.dtype)
    bell = torch.exp(-(axis - place_NM22[..., None]).square() / (2 * delta**2))  # N, M, centre, xy, size
    return (bell[:, :, :, 1, :, None] * bell[:, :, :, 0, None, :]).amax(2)
