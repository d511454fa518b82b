"""Face boxes for clips that come without: MTCNN on the clip itself, before it is composed into anything."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.drawing.composition import Clip, KnownFace
from reactionnet_pipeline.records import Box


def with_detected_faces(clip: Clip, subject_ids: Sequence[str], every: int = 3, min_score: float = 0.7) -> Clip:
    """Find the faces with MTCNN in each `every`-th picture and interpolate between; persons are told by their place.

    `subject_ids` names the persons from left to right. Raises ValueError where a person is nowhere found.
    """
    count, smallest = len(subject_ids), max(20, round(min(clip.frames[0].shape[:2]) * 0.12))
    indexes = sorted({*range(0, len(clip.frames), every), len(clip.frames) - 1})
    known: list[dict[int, tuple[Box, float]]] = [{} for _ in subject_ids]
    for index in indexes:
        found = detect_faces(clip.frames[index], min_face_px=smallest, min_score=min_score)[:count]
        if len(found) == count:
            for person, face in enumerate(sorted(found, key=lambda face: face.box.centre)):
                known[person][index] = (face.box, face.score)
    if not all(known):
        raise ValueError(f"{clip.name}: not one of {len(indexes)} pictures shows {count} faces that MTCNN finds")
    faces = zip(
        *(_interpolated(subject, seen, len(clip.frames)) for subject, seen in zip(subject_ids, known, strict=True)),
        strict=True,
    )
    return replace(clip, faces=list(faces))


def _interpolated(subject_id: str, seen: dict[int, tuple[Box, float]], count: int) -> Iterator[KnownFace]:
    at = sorted(seen)
    boxes = np.array([(box.x, box.y, box.w, box.h) for box, _ in (seen[index] for index in at)])
    for index in range(count):
        x, y, w, h = (float(np.interp(index, at, boxes[:, side])) for side in range(4))
        box = Box(x=x, y=y, w=w, h=h)
        score, source = (seen[index][1], "mtcnn") if index in seen else (1.0, "interpolated")
        yield KnownFace(subject_id=subject_id, box=box, score=score, source=source)
