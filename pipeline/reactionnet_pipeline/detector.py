"""Face detection with MTCNN (facenet-pytorch, weights in its wheel), one thread, one picture a call."""

from functools import cache

import numpy as np

from reactionnet_pipeline.records import Box, Face


@cache
def _mtcnn(min_face_px: int):
    import torch
    from reactionnet_datasets import torchvision_on_cpu

    torch.set_num_threads(1)
    torchvision_on_cpu.ensure()
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, min_face_size=min_face_px, post_process=False, device="cpu")


def detect_faces(rgb_HWC: np.ndarray, min_face_px: int = 20, min_score: float = 0.7) -> list[Face]:
    """Faces of one picture, best score first, boxes in its pixels."""
    import torch

    with torch.inference_mode():
        boxes, scores, points = _mtcnn(min_face_px).detect(rgb_HWC, landmarks=True)
    if boxes is None:
        return []
    faces = [
        Face(
            box=Box(x=float(x1), y=float(y1), w=float(x2 - x1), h=float(y2 - y1)),
            score=float(score),
            points=tuple((float(x), float(y)) for x, y in five),
        )
        for (x1, y1, x2, y2), score, five in zip(boxes, scores, points, strict=True)
        if score is not None and score >= min_score
    ]
    return sorted(faces, key=lambda face: -face.score)
