"""Face vectors: which pictures are looked at, and what is said of weights that are none."""

import cv2
import numpy as np
import pytest

from reactionnet_pipeline import detector, landmarks
from reactionnet_pipeline.embeddings import Config, best_rows, load_dlib, load_facenet
from reactionnet_pipeline.weights import DLIB_FACES, weights_file


def row(frame: int, yaw: float, offset: int | None = 0) -> dict:
    return {"frame": frame, "source": "detected", "pose": [yaw, 0, 0], "box": [0, 0, 100, 130], "offset": offset}


def test_the_most_frontal_picture_of_each_stretch_is_looked_at():
    rows = [row(0, 30), row(1, 2), row(2, 30), row(3, 5), row(4, 1), row(5, 40)]
    assert [one["frame"] for one in best_rows(rows, Config(crops=2))] == [1, 4]


def test_what_shows_nothing_is_not_looked_at():
    assert best_rows([row(0, 80), row(1, 0, offset=None)], Config(crops=2)) == []


def crop_of(picture: np.ndarray, box) -> tuple[np.ndarray, np.ndarray]:
    points = landmarks.find_landmarks(picture, box)
    matrix = landmarks.crop_matrix(landmarks.align(points), 256)
    return landmarks.warp(picture, matrix, 256), points @ matrix[:, :2].T + matrix[:, 2]


def test_a_poor_picture_of_a_person_is_nearer_than_two_other_people(shared):
    crops = []
    for name in ("official_portrait_2012.jpg", "official_portrait_2013.jpg", "astronaut_collins.png"):
        picture = cv2.cvtColor(cv2.imread(str(shared / "faces" / name)), cv2.COLOR_BGR2RGB)
        scale = 640 / max(picture.shape)
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        crops.append(crop_of(picture, detector.detect_faces(picture)[0].box))
    dim = cv2.GaussianBlur(cv2.flip(crops[0][0], 1), (0, 0), 2) // 2
    box = detector.detect_faces(dim)[0].box
    one, *others, again = load_dlib(weights_file(*DLIB_FACES))(*zip(*crops, crop_of(dim, box), strict=True))
    assert np.linalg.norm(one - again) < 0.5
    assert min(np.linalg.norm(one - other) for other in others) > 0.6


def test_weights_that_are_none_are_named(tmp_path):
    import torch

    (tmp_path / "junk.dat").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.dat holds no network"):
        load_dlib(tmp_path / "junk.dat")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt lacks \d+ weights"):
        load_facenet(tmp_path / "other.pt", "cpu")


@pytest.mark.slow
def test_facenet_weights_are_loaded_from_a_file(tmp_path):
    import torch
    from safetensors.torch import save_file

    from reactionnet_datasets import torchvision_on_cpu

    torchvision_on_cpu.ensure()
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    net = InceptionResnetV1(pretrained=None, classify=False).eval()
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, tmp_path / "net.safetensors")
    embed = load_facenet(tmp_path / "net.safetensors", "cpu")
    noise = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3), np.uint8)
    points = np.random.default_rng(1).uniform(60, 200, (2, 68, 2))
    vectors = embed(noise, points)
    assert vectors.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
