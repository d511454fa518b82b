"""Releases of the data sets that CAGE and AAR report, in the layouts of the tiny ones but large enough to train and test on.

Classes, units and dimensions all occur. AAR's data sets show a face, from which landmarks are found; DISFA's come with it.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from fake import affwild2, bp4d, emotic
from fake.affectnet import write_later
from fake.printed import picture, write

# Places of the 49 inner landmarks of an upright face, 100 px wide: brows, nose, eyes, outer lips, inner lips.
FACE_49 = np.array([
    *((15 + 6 * n, 30 - 3 * (n > 0)) for n in range(5)), *((61 + 6 * n, 30 - 3 * (n < 4)) for n in range(5)),
    *((50, 40 + 6 * n) for n in range(4)), *((42 + 4 * n, 64) for n in range(5)),
    (22, 42), (27, 39), (33, 39), (38, 42), (33, 44), (27, 44), (62, 42), (67, 39), (73, 39), (78, 42), (73, 44), (67, 44),
    (36, 78), (41, 75), (46, 74), (50, 75), (54, 74), (59, 75), (64, 78), (59, 82), (54, 84), (50, 84), (46, 84), (41, 82),
    (45, 78), (50, 78), (55, 78), (55, 79), (50, 79), (45, 79),
], float)  # fmt: skip


def code(subject: int, frame: int, au: int) -> int:
    """0 or 1: something that differs by subject, frame and unit."""
    return (frame // (1 + au % 3) + subject) % 2


def face(shared: Path, number: int, side: int = 200) -> bytes:
    """A photograph's face as a JPEG, a little brighter from one to the next."""
    whole = Image.open(shared / "faces" / "official_portrait_2012.jpg").convert("RGB")
    scale = side / min(whole.size)
    small = whole.resize((round(whole.width * scale), round(whole.height * scale))).crop((0, 0, side, side))
    file = io.BytesIO()
    small.point(lambda level: min(255, level + number)).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_bp4d(root: Path, shared: Path, num: int = 6) -> Path:
    """A subject of each of the three parts."""
    aus = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
    for place, subject in enumerate(("F001", "F003", "F007")):
        codes = {frame: {au: code(place, frame, au) for au in aus} for frame in range(1, num + 1)}
        text = bp4d.occurrences(codes, ",".join(map(str, range(100))))
        write(root / f"AUCoding/AU_OCC/{subject}_T1.csv", text)
        for frame in codes:
            write(root / f"Sequences(2D+3D)/{subject}/T1/{frame:03d}.jpg", face(shared, 2 * frame + place))
    return root


def write_disfa(root: Path, num: int = 8) -> Path:
    """A subject of each of the three parts, as pictures; landmarks of another place and size for each."""
    from scipy.io import savemat

    for place, subject in enumerate(("SN001", "SN006", "SN003")):
        for au in (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26):
            scores = [(1, 3)[code(place, frame, au)] for frame in range(num)]
            lines = "".join(f"{frame},{score}\n" for frame, score in enumerate(scores, 1))
            write(root / f"ActionUnit_Labels/{subject}/{subject}_au{au}.txt", lines)
        for frame in range(1, num + 1):
            write(root / f"LeftVideo{subject}/{frame:05d}.jpg", picture(f"{subject} {frame}", width=160, height=140))
            inner = FACE_49 * (1 + 0.05 * place) + (20 + frame, 10)
            path = root / f"Landmark_Points/{subject}/tmp_frame_lm/{subject}_{frame - 1:04d}_lm.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            savemat(path, {"pts": np.concatenate([np.zeros((17, 2)), inner])})
    return root


def write_gft(root: Path, shared: Path, num: int = 6) -> Path:
    """One subject to train on and one to test, named so in `partition.csv`."""
    aus = (1, 2, 4, 6, 10, 12, 14, 15, 23, 24)
    lines = ["subject,frame," + ",".join(f"AU{au}" for au in aus)]
    for place, subject in enumerate(("001A", "014B")):
        for frame in range(1, num + 1):
            lines.append(",".join(map(str, [subject, frame, *(code(place, frame, au) for au in aus)])))
            write(root / f"images/{subject}/{frame}.jpg", face(shared, 3 * frame + place))
    write(root / "annotations/occurrence.csv", "\n".join(lines) + "\n")
    write(root / "partition.csv", "subject,split\n001A,train\n014B,test\n")
    return root


def write_affwild2(root: Path, shared: Path, num: int = 6) -> Path:
    """A video to train action units on and one to validate; frame 1 of both is not annotated."""
    header = affwild2.AU.splitlines()[0]
    aus = [int(name.removeprefix("AU")) for name in header.split(",")]
    for place, (split, video) in enumerate(((affwild2.TRAIN, "alpha"), (affwild2.VALIDATION, "beta"))):
        rows = [[code(place, frame, au) if frame > 1 else -1 for au in aus] for frame in range(1, num + 1)]
        text = "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"
        write(root / f"{affwild2.ANNOTATIONS}/AU_Detection_Challenge/{split}/{video}.txt", text)
        for frame in range(1, num + 1):
            write(root / f"cropped_aligned/{video}/{frame:05d}.jpg", face(shared, 4 * frame + place))
    return root


def write_affectnet(root: Path) -> Path:
    """Every class, six times to train (contempt four times) and twice to judge."""

    def rows(times: Mapping[int, int]) -> dict[str, tuple[int, str, str]]:
        listed = [number for number, count in times.items() for _ in range(count)]
        return {
            str(n): (number, str(round(n / 100 - 0.2, 2)), str(round(0.3 - number / 10, 2)))
            for n, number in enumerate(listed)
        }

    split = {"train": rows({**dict.fromkeys(range(8), 6), 7: 4}), "val": rows(dict.fromkeys(range(8), 2))}
    return write_later(root, split)


CATEGORIES = (
    "Affection", "Anger", "Annoyance", "Anticipation", "Aversion", "Confidence", "Disapproval", "Disconnection",
    "Disquietment", "Doubt/Confusion", "Embarrassment", "Engagement", "Esteem", "Excitement", "Fatigue", "Fear", "Happiness",
    "Pain", "Peace", "Pleasure", "Sadness", "Sensitivity", "Suffering", "Surprise", "Sympathy", "Yearning",
)  # fmt: skip


def write_emotic(root: Path) -> Path:
    """Two people a picture, with a category or two each, all 26 of which occur; the second stands on the right."""
    for split, num in (("train", 30), ("val", 6), ("test", 8)):
        lines = [emotic.HEADER]
        for index in range(num):
            name, right = f"{split}_{index // 2}.jpg", index % 2
            words = [CATEGORIES[index % 26], CATEGORIES[(index * 7 + 3) % 26]]
            box, affects = [8 + 24 * right, 4, 28 + 24 * right, 44], [1 + index % 10, 10 - index % 10, 1 + index % 7]
            cells = f'"[64, 48]","{box}","{words}","{affects}",Male,Adult'
            lines.append(f"{index},{emotic.FRAMES},{name},{cells}")
            write(root / "emotic" / emotic.FRAMES / name, picture(name, width=64, height=48))
        write(root / f"emotic_pre/{split}.csv", "\n".join(lines) + "\n")
    return root
