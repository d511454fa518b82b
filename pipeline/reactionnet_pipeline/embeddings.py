"""Stage 4: what the face of each track looks like, as a vector, so that a person can be known again in another video.

dlib's ResNet (its weights come with a package) or FaceNet's InceptionResnetV1, on the best crops of a track, averaged.
Vectors are biometric data: they stay in the work folder, readable by its owner alone (in a store, by whom the bucket lets
read it), and enter no shard and no table.
They are rounded to 1e-3 before anything is decided from them.

Letters: N tracks that go on across segment borders (chains), K crops, D numbers of a vector, H height, W width, C RGB.

`python -m reactionnet_pipeline.embeddings FILE` tries whether weights can be loaded and run.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from reactionnet_datasets.shards import atomic_file
from reactionnet_datasets.stores import Place, as_place
from reactionnet_pipeline.cache import cached, fingerprint, library_versions
from reactionnet_pipeline.clips import People, people_of
from reactionnet_pipeline.demographics import worth
from reactionnet_pipeline.errors import DeadLetter
from reactionnet_pipeline.model_options import Weights
from reactionnet_pipeline.parts import StagedFiles
from reactionnet_pipeline.records import SegmentPart
from reactionnet_pipeline.subjects import Track, chain_id, name_subjects

VERSION = 1
FACENET_PX = 160


@dataclass(frozen=True, kw_only=True)
class Config:
    """A track's vector is the mean over its best crops, at most `crops`; `min_worth` is 0 to 1 (`demographics.worth`)."""

    crops: int = 6
    min_worth: float = 0.05
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.crops < 1 or not 0 <= self.min_worth <= 1:
            raise ValueError(f"crops {self.crops}, min_worth {self.min_worth}: expected 1 or more, and 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The faces of a video: a file of vectors, relative to the work folder."""

    video_id: str
    file: str


Embed = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray]  # crops, landmarks in them -> (K, D)


def load_dlib(path: Path) -> Embed:
    """dlib's face recognition ResNet (King, 2017): 128 numbers; two people are usually further apart than 0.6."""
    import dlib

    try:
        net = dlib.face_recognition_model_v1(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path.name} holds no network of dlib's: {error}") from error

    def embed(crops_KHWC: Sequence[np.ndarray], landmarks_K682: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for crop_HWC, points_68x2 in zip(crops_KHWC, landmarks_K682, strict=True):
            points = dlib.points([dlib.point(round(float(x)), round(float(y))) for x, y in points_68x2])
            whole = dlib.rectangle(0, 0, crop_HWC.shape[1], crop_HWC.shape[0])
            shape = dlib.full_object_detection(whole, points)
            rows.append(np.array(net.compute_face_descriptor(np.ascontiguousarray(crop_HWC), shape)))
        return np.array(rows)

    return embed


def load_facenet(path: Path, device: str) -> Embed:
    """FaceNet (Schroff et al., CVPR 2015) as facenet-pytorch has it: 512 numbers of length 1. ValueError for other weights."""
    import torch

    from reactionnet_datasets import torchvision_on_cpu

    torchvision_on_cpu.ensure()
    torch.set_num_threads(1)
    from facenet_pytorch import InceptionResnetV1

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    net = InceptionResnetV1(pretrained=None, classify=False)
    lacking, _ = net.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits")}, strict=False)
    if lacking:
        raise ValueError(f"{path.name} lacks {len(lacking)} weights of InceptionResnetV1, such as {lacking[0]}")
    net.eval().to(device)

    def embed(crops_KHWC: Sequence[np.ndarray], landmarks_K682: Sequence[np.ndarray]) -> np.ndarray:
        import cv2

        faces = []
        for crop_HWC, points_68x2 in zip(crops_KHWC, landmarks_K682, strict=True):
            # from the brows to the chin, a fifth more on each side, as MTCNN's box with the network's usual margin
            (left, top), (right, bottom) = points_68x2.min(axis=0), points_68x2.max(axis=0)
            grow_x, grow_y = 0.1 * (right - left), 0.2 * (bottom - top)
            x0, y0 = max(int(left - grow_x), 0), max(int(top - 2 * grow_y), 0)
            part = crop_HWC[y0 : int(bottom + grow_y) + 1, x0 : int(right + grow_x) + 1]
            faces.append(cv2.resize(part, (FACENET_PX, FACENET_PX), interpolation=cv2.INTER_AREA))
        pixels = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float().sub_(127.5).div_(128.0)
        with torch.inference_mode():
            return net(pixels.to(device)).cpu().numpy()

    return embed


def load(weights: Weights, device: str = "cpu") -> Embed:
    """The network that an option named."""
    return load_dlib(weights.file) if weights.engine == "dlib" else load_facenet(weights.file, device)


def best_rows(rows: Sequence[dict[str, Any]], config: Config) -> list[dict[str, Any]]:
    """The best face of each stretch of a track, of those that are worth looking at."""
    worths = [worth(row["source"], row["pose"], row["box"][2]) if row["offset"] is not None else 0.0 for row in rows]
    chosen = []
    for stretch in np.array_split(np.arange(len(rows)), min(config.crops, len(rows))):
        best = max(stretch.tolist(), key=lambda place: (worths[place], -place))
        if worths[best] >= config.min_worth:
            chosen.append(rows[best])
    return chosen


@dataclass(frozen=True, kw_only=True)
class EmbedFaces:
    """The stage: (video, what came of its segments) in, `Embedded` out, from the work folder where it is there."""

    weights: Weights
    config: Config
    work: str

    def load(self) -> Embed:
        """Called in the worker, once a process."""
        return load(self.weights, self.config.device)

    def num_bytes(self, group: tuple[str, Sequence[SegmentPart | DeadLetter]]) -> int:
        return len(group[1]) * self.config.crops * 256 * 256 * 3

    def run(self, group: tuple[str, Sequence[SegmentPart | DeadLetter]], model: Callable[[], Embed]) -> Embedded:
        """Vectors of all tracks of a video; a video without faces has none."""
        video_id, arrived = group
        parts = sorted((p for p in arrived if isinstance(p, SegmentPart)), key=lambda part: (part.span, part.number))
        if not parts:
            return Embedded(video_id=video_id, file="")
        work, source = as_place(self.work), parts[0].laid_out.ingested.source
        key = fingerprint(
            stage="embeddings", version=VERSION, config=self.config, model=self.weights.digest,
            parts=[part.table for part in parts], layout=as_place(parts[0].laid_out.layout).name,
            libraries=library_versions(), subjects=source.subject_ids,
        )  # fmt: skip

        def compute(stem: Place) -> dict[str, str]:
            seen = people_of(parts, work)
            given = source.subject_ids
            names = name_subjects(seen.persons, video_id, given)
            with StagedFiles(work) as read:
                content = self._vectors(seen, [name if name in given else "" for name in names], parts, read, model)
            with atomic_file(stem.parent) as (file, naming):
                os.fchmod(file.fileno(), 0o600)
                np.savez(file, allow_pickle=False, **content)
                naming.name = stem.name + ".npz"
            return {"file": naming.name}

        return Embedded(
            video_id=video_id, file=f"embeddings/{cached(work, 'embeddings', video_id, key, compute)['file']}"
        )

    def _vectors(
        self, people: People, subjects: Sequence[str], parts: Sequence[SegmentPart],
        read: Callable[[Mapping[str, Any]], bytes], model: Callable[[], Embed],
    ) -> dict[str, np.ndarray]:  # fmt: skip
        ids, persons, spans, vectors, counts, named = [], [], [], [], [], []
        for person, one in enumerate(people.persons):
            for chain in one.chains:
                rows = best_rows(self._rows(chain, people, parts), self.config)
                crops = [simplejpeg.decode_jpeg(read(row), colorspace="RGB") for row in rows]
                points = [np.asarray(row["landmarks"], np.float32).reshape(68, 2) for row in rows]
                ids.append(chain_id(chain))
                persons.append(person)
                named.append(subjects[person])
                spans.append((int(chain[0].frames[chain[0].own][0]), int(chain[-1].frames[chain[-1].own][-1])))
                counts.append(len(rows))
                vectors.append(model()(crops, points).mean(axis=0).round(3) if rows else None)
        size = next((len(vector) for vector in vectors if vector is not None), 0)
        return {
            "chain": np.array(ids, np.str_),
            "person": np.array(persons, np.int32),
            "subject": np.array(named, np.str_),
            "frames": np.array(spans, np.int64).reshape(-1, 2),
            "crops": np.array(counts, np.int32),
            "vector": np.array([np.zeros(size) if v is None else v for v in vectors], np.float32).reshape(
                len(ids), size
            ),
        }

    def _rows(self, chain: Sequence[Track], people: People, parts: Sequence[SegmentPart]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for track in chain:
            number = next(n for n, part in enumerate(parts) if (part.span, part.number) == (track.span, track.part))
            table = people.tables[number].take(track.rows[track.own])
            rows += [{**row, "blob": parts[number].blob} for row in table.to_pylist()]
        return rows


def try_out(file: Path, device: str = "cpu") -> None:
    """Load the network and look at one grey picture, or raise what is wrong with it."""
    embed = load_dlib(file) if file.suffix == ".dat" else load_facenet(file, device)
    turn = np.linspace(0, 2 * np.pi, 68)
    embed([np.full((256, 256, 3), 127, np.uint8)], [np.stack([128 + 60 * np.cos(turn), 128 + 60 * np.sin(turn)], 1)])


if __name__ == "__main__":
    try_out(Path(sys.argv[1]), *sys.argv[2:])
