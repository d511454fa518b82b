"""Apparent age, gender, ethnicity and emotion of a subject: DeepFace's attribute nets on the best crops of all their clips.

Serengil and Ozpinar, DeepFace; the ReactionNet paper describes its subjects with it. What the nets say is how a face
looks to them, not who somebody is. Through DeepFace's attribute clients, which take a batch: all crops of a subject at
once (its `analyze` goes one by one). A subject gets a distribution with a confidence, and "unknown" below a floor.

Letters: N crops of one subject, K classes, H height, W width, C colour (BGR, as DeepFace wants it).

`python -m reactionnet_pipeline.demographics FOLDER [DEVICE]` tries whether the weights in a folder can be loaded and run.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from reactionnet_datasets.arrays import from_npy
from reactionnet_datasets.labels import class_name
from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import file_sha256, write_atomic
from reactionnet_datasets.stores import Place, as_place
from reactionnet_pipeline import admitted
from reactionnet_pipeline.cache import cached, fingerprint
from reactionnet_pipeline.errors import Code, DeadLetter, SourceError
from reactionnet_pipeline.model_options import DEEPFACE_ENGINES, DEEPFACE_NETS, Weights
from reactionnet_pipeline.parts import Part, StagedFiles, part_rows

VERSION = 1
UNKNOWN = "unknown"
SIDE = 224
SOURCE_WORTH = {"detected": 1.0, "tracked": 0.8, "interpolated": 0.2}
POSE_DEG = 20.0  # a face turned by as much counts 0.6 of a frontal one
LIBRARIES = ("deepface", "onnxruntime", "torch", "numpy", "opencv-contrib-python-headless", "simplejpeg")
CLASSES = {
    "gender": ("woman", "man"),
    "ethnicity": ("asian", "indian", "black", "white", "middle_eastern", "latino_hispanic"),
    "emotion": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
}
CLIENTS = {"age": "Age", "gender": "Gender", "ethnicity": "Race", "emotion": "Emotion"}  # DeepFace's names


@dataclass(frozen=True, kw_only=True)
class Config:
    """Floors: where the confidence is lower, the answer is "unknown". Fewer than `min_crops` crops give no answer."""

    crops: int = 16
    min_crops: int = 3
    age_floor: float = 0.5
    gender_floor: float = 0.75
    ethnicity_floor: float = 0.5
    emotion_floor: float = 0.4
    age_within: float = 5.0  # years; age's confidence is the share of crops that agree with their median as well
    device: str = "cpu"  # as torch spells it; with .onnx weights anything else means CUDA

    def __post_init__(self) -> None:
        floors = (self.age_floor, self.gender_floor, self.ethnicity_floor, self.emotion_floor)
        if not 1 <= self.min_crops <= self.crops or not all(0 <= floor <= 1 for floor in floors):
            raise ValueError(
                f"crops {self.crops}, min_crops {self.min_crops}, floors {floors}: expected 1 <= min_crops <= crops"
                " and floors from 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """What is known of a subject: a file of columns of the `subjects` table, relative to the work folder; or a letter."""

    subject_id: str
    file: str | None
    letter: DeadLetter | None = None


class AttributeNets:
    """DeepFace's four nets, loaded. ValueError where a weight file cannot be read."""

    def __init__(self, weights_folder: Path, engine: str, device: str = "cpu"):
        # DeepFace takes both from the environment, once a process, and would fetch what is missing
        os.environ["DEEPFACE_HOME"] = str(weights_folder.parents[1])
        os.environ["DEEPFACE_BACKEND_ENGINE"] = engine
        if engine == "onnx":
            os.environ["DEEPFACE_ONNX_PROVIDERS"] = "cpu" if device == "cpu" else "cuda,cpu"
        else:
            import torch

            torch.set_num_threads(1)
        from deepface.modules import modeling

        for net in DEEPFACE_NETS:
            if not (weights_folder / f"{net}{DEEPFACE_ENGINES[engine]}").is_file():
                raise ValueError(f"{weights_folder} lacks {net}{DEEPFACE_ENGINES[engine]}")
        self._clients = {
            what: modeling.build_model(task="facial_attribute", model_name=name) for what, name in CLIENTS.items()
        }
        if (order := deepface_classes()) != CLASSES:
            raise ValueError(f"the installed deepface numbers its classes as {order}; expected {CLASSES}")
        if engine == "pytorch":
            for client in self._clients.values():
                client.device = torch.device(device)
                client.model = client.model.eval().to(client.device)
        elif device == "cpu":
            self._one_thread(weights_folder)

    def _one_thread(self, folder: Path) -> None:
        """DeepFace's sessions take a thread a core; parallelism is the runner's here."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        files = dict(zip(("age", "gender", "ethnicity", "emotion"), DEEPFACE_NETS, strict=True))
        for what, net in files.items():
            self._clients[what].model = onnxruntime.InferenceSession(
                str(folder / f"{net}.onnx"), sess_options=options, providers=["CPUExecutionProvider"]
            )

    def predict(self, crops_NHWC: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Apparent ages (N,) in years, and probabilities (N, K) in the order of CLASSES, of faces of any size."""
        from deepface.modules.preprocessing import resize_image

        batch = [resize_image(crop_HWC, (SIDE, SIDE))[0] for crop_HWC in crops_NHWC]
        found = {"age": np.atleast_1d(np.asarray(self._clients["age"].predict(batch), np.float64))}
        for what in CLASSES:
            rows_NK = np.atleast_2d(np.asarray(self._clients[what].predict(batch), np.float64))
            found[what] = rows_NK / rows_NK.sum(axis=1, keepdims=True)
        if not all(np.isfinite(values).all() for values in found.values()):
            raise SourceError(Code.MODEL_FAILED, "the attribute nets gave numbers that are not finite")
        # rounded before anything is decided from them, so that a last bit decides nothing
        return {what: values.round(3) for what, values in found.items()}


def columns(found: Mapping[str, np.ndarray], config: Config) -> dict[str, Any]:
    """The subject's columns: answers with confidence and distribution; unknown below the floors."""
    ages_N = found["age"]
    enough = len(ages_N) >= config.min_crops
    median = float(np.median(ages_N))
    agree = round(float((np.abs(ages_N - median) <= config.age_within).mean()), 3)
    known = enough and agree >= config.age_floor
    decades = [f"{int(age // 10) * 10}-{int(age // 10) * 10 + 9}" for age in ages_N]
    row: dict[str, Any] = {
        "crops": len(ages_N),
        "age": round(median, 1) if known else None,
        "age_group": f"{int(median // 10) * 10}-{int(median // 10) * 10 + 9}" if known else UNKNOWN,
        "age_confidence": agree,
        "age_distribution": {decade: round(decades.count(decade) / len(decades), 3) for decade in sorted(set(decades))},
    }
    for what, classes in CLASSES.items():
        mean_K = found[what].mean(axis=0)
        best = int(mean_K.argmax())
        confidence = round(float(mean_K[best]), 3)
        row[what] = classes[best] if enough and confidence >= getattr(config, f"{what}_floor") else UNKNOWN
        row[f"{what}_confidence"] = confidence
        row[f"{what}_distribution"] = dict(zip(classes, mean_K.round(3).tolist(), strict=True))
    return row


def deepface_classes() -> dict[str, tuple[str, ...]]:
    """The order in which the installed DeepFace numbers its classes, in our spelling."""
    from deepface.models.demography import DemographyUtils as Labels

    found = {"gender": Labels.GENDER_LABELS, "ethnicity": Labels.RACE_LABELS, "emotion": Labels.EMOTION_LABELS}
    return {what: tuple(map(class_name, names)) for what, names in found.items()}


def best_crops(parts: Iterable[Part], most: int) -> list[np.ndarray]:
    """Faces (H, W, 3; BGR) cut from the best pictures of a subject's clips, spread over all of them, in order of time.

    A picture is the better, the more frontal and the larger its face, and the surer that it is one.
    """
    rows = [row for part in sorted(parts, key=lambda part: part.clip_id) for row in _faces(part)]
    bins = np.array_split(np.arange(len(rows)), min(most, len(rows))) if rows else []
    chosen = [max(numbers.tolist(), key=lambda number: (rows[number]["worth"], -number)) for numbers in bins]
    return [_cut(rows[number]) for number in chosen]


def worth(source: str, pose_deg: Sequence[float], width_px: float) -> float:
    """How much a face picture tells, 0 to 1: frontal, at least 96 px wide and detected is best."""
    frontal = float(np.exp(-(pose_deg[0] ** 2 + pose_deg[1] ** 2) / (2 * POSE_DEG**2)))
    return round(SOURCE_WORTH.get(source, 0.2) * frontal * min(1.0, width_px / 96), 4)


def _faces(part: Part) -> list[dict[str, Any]]:
    folder = as_place(part.folder)
    chunks = json.loads((folder / part.index).with_suffix(".facts.json").read_bytes())["chunks"]
    poses, pictures = {}, []
    with StagedFiles(folder) as read:
        for row in part_rows(part):
            if row["suffix"] == "pose.npy":
                poses[row["key"]] = from_npy(read(row))
            elif row["suffix"].endswith(".reaction.jpg"):
                pictures.append(row)
    faces = []
    for row in pictures:
        chunk, number = chunks[row["key"]], int(row["suffix"][:3])
        box = chunk["face_boxes"][number]
        value = worth(chunk["face_sources"][number], poses[row["key"]][number], box[2])
        faces.append({**row, "folder": folder, "box": box, "crop": chunk["crop"][number], "worth": value})
    return faces


def _cut(row: Mapping[str, Any]) -> np.ndarray:
    """The face box cut out of the aligned picture: DeepFace's nets know faces without much around them."""
    with StagedFiles(row["folder"]) as read:
        picture_HWC = simplejpeg.decode_jpeg(read(row), colorspace="BGR")
    x, y, w, h = row["box"]
    corners_42 = np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]])
    matrix_23 = np.array(row["crop"]).reshape(2, 3)
    inside_42 = corners_42 @ matrix_23[:, :2].T + matrix_23[:, 2]
    height, width = picture_HWC.shape[:2]
    left, top = np.clip(np.floor(inside_42.min(axis=0)), 0, (width - 8, height - 8)).astype(int)
    right, bottom = np.clip(np.ceil(inside_42.max(axis=0)), (left + 8, top + 8), (width, height)).astype(int)
    return picture_HWC[top:bottom, left:right]


@dataclass(frozen=True, kw_only=True)
class EstimateDemographics:
    """The stage: (subject, its clips as `Part`s) in, `Estimated` out. `work` is the work folder."""

    weights: Weights
    config: Config
    work: str

    def load(self) -> AttributeNets:
        """Called in the worker, once a process."""
        return AttributeNets(Path(self.weights.path), self.weights.engine, self.config.device)

    def run(self, keyed: tuple[str, Iterable[Part]], model: Callable[[], AttributeNets]) -> Estimated:
        """Columns of one subject, from the work folder where they are there."""
        subject_id, parts = keyed[0], sorted(set(keyed[1]), key=lambda part: part.clip_id)
        try:
            return Estimated(subject_id=subject_id, file=self._estimate(subject_id, parts, model))
        except SourceError as error:
            return Estimated(subject_id=subject_id, file=None, letter=self._letter(subject_id, parts[0], error))

    def num_bytes(self, keyed: tuple[str, Iterable[Part]]) -> int:
        return self.config.crops * SIDE * SIDE * 3

    def _estimate(self, subject_id: str, parts: Sequence[Part], model: Callable[[], AttributeNets]) -> str:
        name = f"{self.weights.name}@{self.weights.digest[:12]}"
        key = fingerprint(
            stage="demographics", version=VERSION, config=self.config, model=name,
            clips=[[part.clip_id, file_sha256(as_place(part.folder) / part.index)] for part in parts],
            libraries={library: _version(library) for library in LIBRARIES},
        )  # fmt: skip

        def compute(stem: Place) -> dict[str, str]:
            found = model().predict(best_crops(parts, self.config.crops))
            file = stem.name + ".columns.json"
            row = {**columns(found, self.config), "demographics_model": name}
            write_atomic(stem.with_name(file), canonical_json(row))
            return {"file": file}

        return f"demographics/{cached(as_place(self.work), 'demographics', subject_id, key, compute)['file']}"

    def _letter(self, subject_id: str, part: Part, error: SourceError) -> DeadLetter:
        video_id = facts_of(part)["video_id"]
        return DeadLetter(
            video_id=video_id,
            line=admitted.find_row(as_place(self.work), video_id)["line"],
            stage="demographics",
            code=error.code,
            message=f"nothing estimated for subject {subject_id}: {error.message}",
            retryable=True,
            kept=True,
        )


def facts_of(part: Part) -> dict[str, Any]:
    """Ids of a staged clip: video_id, subject_id, track and others."""
    return json.loads((as_place(part.folder) / part.index).with_suffix(".facts.json").read_bytes())["clip"]


def by_subject(part: Part) -> tuple[str, Part]:
    """What the clips of one person are grouped by."""
    return facts_of(part)["subject_id"], part


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def try_out(folder: Path, device: str = "cpu") -> None:
    """Load the nets and look at one grey picture, or raise what is wrong with them."""
    engine = next(e for e, ending in DEEPFACE_ENGINES.items() if (folder / f"{DEEPFACE_NETS[0]}{ending}").exists())
    AttributeNets(folder, engine, device).predict([np.full((64, 64, 3), 127, np.uint8)])


if __name__ == "__main__":
    try_out(Path(sys.argv[1]), *sys.argv[2:])
