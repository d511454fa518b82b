"""Faces brought to one place by a similarity transform of their 49 landmarks, as JAA-Net and AAR do.

The eye centres become level; a square of 2.9 times the extent of eye centres, nose tip and mouth corners becomes the
picture. Crop and mirror are part of the same resampling. Letters: N pictures, H, W pixels; points are x, y, whole numbers
at pixel centres.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from reactionnet_datasets.augment import MIRROR_49

LEFT_EYE, RIGHT_EYE, NOSE_TIP, MOUTH_CORNERS = slice(19, 25), slice(25, 31), 13, (31, 37)
EXTENT = 2.9
OUTSIDE = 128 / 127.5 - 1  # grey 128 in [-1, 1]
FIELD = "landmarks49"  # what of the items aligning reads
# Pictures as floats at one time, before they are cut out: 8 sequences of 48 of BP4D's would be 6.7 GB.
FLOAT_BYTES = 256 << 20


class Faces(NamedTuple):
    """Aligned pictures (B, T, C, size, size) in [-1, 1], which frames have landmarks (B, T), and those as they lie and are
    called in the pictures (B * T, 49, 2). Faces without are pictures of anything."""

    image_BTCHW: Tensor
    found_BT: Tensor
    landmarks_N492: Tensor

    def colours(self) -> Tensor:
        """The pictures (B, T, C, size, size) in 0 to 1."""
        return (self.image_BTCHW + 1) / 2


def fields(aligned: int | None) -> tuple[str, ...]:
    """What of a data set brings the faces: pictures, and landmarks where they are to be aligned."""
    return ("frames",) if aligned is None else ("frames", FIELD)


def check_sides(aligned: int | None, size: int) -> None:
    """ValueError where a crop of `size` does not fit a face brought to `aligned`."""
    if aligned is not None and aligned < size:
        raise ValueError(f"aligned={aligned}: a crop of {size} does not fit; set it to {size} or more, or to none")


def faces(items: Mapping[str, Any], aligned: int, size: int, random: torch.Generator | None) -> Faces:
    """Faces of items of `ShardDataset`, aligned to `aligned` x `aligned` and cropped to `size`, alike in a sequence.

    Crops and mirrors are drawn; without `random` the middle is shown, unmirrored. ValueError where items lack landmarks.
    """
    if FIELD not in items:
        raise ValueError(f"items without {FIELD} cannot be aligned: take a preset that aligns, or set aligned=none")
    frames_BTCHW, landmarks = items["frames"], items[FIELD].float()
    (num, length), device = frames_BTCHW.shape[:2], frames_BTCHW.device
    found_BT = landmarks.isfinite().all(-1).all(-1) & items["frame_mask"].to(device)
    flat_N492 = torch.where(found_BT.flatten()[:, None, None], landmarks.flatten(0, 1), _somewhere(landmarks))
    room = aligned - size
    if random is None:
        offset_B2, mirror_B = torch.full((num, 2), float(room // 2)), torch.zeros(num, dtype=torch.bool)
    else:
        offset_B2 = torch.randint(room + 1, (num, 2), generator=random).float()
        mirror_B = torch.rand(num, generator=random) < 0.5
    offset_N2, mirror_N = (value.to(device).repeat_interleave(length, 0) for value in (offset_B2, mirror_B))
    transform = mirrored(cropped(similarity(flat_N492, aligned), offset_N2), mirror_N, size)
    flat_NCHW = frames_BTCHW.flatten(0, 1)
    few = max(1, FLOAT_BYTES // (4 * flat_NCHW[0].numel()))
    shown = [
        show(some.float() / 127.5 - 1, of_some, size)
        for some, of_some in zip(flat_NCHW.split(few), transform.split(few), strict=True)
    ]
    landmarks_N492 = mirrored_landmarks(move(flat_N492, transform), mirror_N)
    return Faces(torch.cat(shown).unflatten(0, (num, length)), found_BT, landmarks_N492)


def _somewhere(landmarks: Tensor) -> Tensor:
    """Landmarks that give a transform without NaN, for frames that are masked anyway."""
    points = torch.zeros(49, 2, device=landmarks.device)
    points[RIGHT_EYE] = 64.0
    points[[*MOUTH_CORNERS]] = 64.0
    return torch.stack([points[:, 0], points[:, 1] * 0], -1) + torch.arange(49, device=landmarks.device)[:, None] * 0.1


@lru_cache(maxsize=1)
def mirror_49() -> Tensor:
    """What each of the 49 landmarks becomes in a mirror."""
    return torch.from_numpy(MIRROR_49.copy())


def similarity(landmarks_N492: Tensor, size: int) -> Tensor:
    """The transform (N, 2, 3) from pixels of a picture to pixels of the aligned face of `size` x `size`."""
    left_N2, right_N2 = landmarks_N492[:, LEFT_EYE].mean(1), landmarks_N492[:, RIGHT_EYE].mean(1)
    across_N2 = right_N2 - left_N2
    cos_N, sin_N = (across_N2 / across_N2.norm(dim=1, keepdim=True)).unbind(1)
    turn_N22 = torch.stack([cos_N, sin_N, -sin_N, cos_N], -1).unflatten(-1, (2, 2))
    rest = landmarks_N492[:, [NOSE_TIP, *MOUTH_CORNERS]]
    level_N52 = torch.cat([left_N2[:, None], right_N2[:, None], rest], 1) @ turn_N22.transpose(1, 2)
    low_N2, high_N2 = level_N52.amin(1), level_N52.amax(1)
    half_N1 = 0.5 * EXTENT * (high_N2 - low_N2).amax(1, keepdim=True)
    scale_N1 = size / (2 * half_N1)
    # Edges of the square become edges of the picture: the first pixel's centre is half a pixel inside.
    shift_N2 = -(((low_N2 + high_N2) / 2 - half_N1) * scale_N1) - 0.5
    return torch.cat([turn_N22 * scale_N1[..., None], shift_N2[..., None]], -1)


def move(landmarks_N492: Tensor, transform_N23: Tensor) -> Tensor:
    """Landmarks in the aligned picture."""
    return landmarks_N492 @ transform_N23[:, :, :2].transpose(1, 2) + transform_N23[:, None, :, 2]


def cropped(transform_N23: Tensor, offset_N2: Tensor) -> Tensor:
    """The transform of a crop that begins at `offset` (x, y) of the aligned picture."""
    return torch.cat([transform_N23[:, :, :2], (transform_N23[:, :, 2] - offset_N2)[..., None]], -1)


def mirrored(transform_N23: Tensor, mirror_N: Tensor, size: int) -> Tensor:
    """The transform followed by a mirror of x, where `mirror` is true."""
    other = transform_N23 * transform_N23.new_tensor([-1, 1])[:, None]
    other = other + other.new_tensor([[0, 0, size - 1], [0, 0, 0]])
    return torch.where(mirror_N[:, None, None], other, transform_N23)


def mirrored_landmarks(landmarks_N492: Tensor, mirror_N: Tensor) -> Tensor:
    """Landmarks whose x a mirror has changed already, called by their new names."""
    return torch.where(
        mirror_N[:, None, None], landmarks_N492[:, mirror_49().to(landmarks_N492.device)], landmarks_N492
    )


def show(image_NCHW: Tensor, transform_N23: Tensor, size: int) -> Tensor:
    """Pictures in [-1, 1] as seen through the transform, (N, C, size, size), bilinear, grey 128 beyond their edges."""
    turn, shift = transform_N23[:, :, :2], transform_N23[:, :, 2]
    back_N22 = torch.linalg.inv(turn)
    axis = torch.arange(size, device=image_NCHW.device, dtype=transform_N23.dtype)
    place_P2 = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    source_NP2 = (place_P2 - shift[:, None]) @ back_N22.transpose(1, 2)
    extent = source_NP2.new_tensor([image_NCHW.shape[-1], image_NCHW.shape[-2]])
    grid = ((2 * source_NP2 + 1) / extent - 1).unflatten(1, (size, size))
    shown = functional.grid_sample(image_NCHW - OUTSIDE, grid.to(image_NCHW), padding_mode="zeros", align_corners=False)
    return shown + OUTSIDE
