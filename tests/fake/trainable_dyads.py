"""Releases of the data sets that ERI, ABAW6 and DRR report, in the layouts of the tiny ones but large enough to train on.

Classes, units and intensities all occur, in every part that a fold trains or tests on. Pictures show what they are.
"""

import wave
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np

from fake import affwild2, bp4d, hume, mmi, rafdb
from fake.printed import picture, video, write
from fake.trainable import code
from reactionnet_datasets.protocols import load_protocol

PER_PART = 2


def spread(protocol: str, names: Iterable[str], per_part: int = PER_PART) -> list[str]:
    """The first of some names that put so many into each part of a protocol."""
    whole = load_protocol(protocol)
    room = dict.fromkeys(whole.parts, per_part)
    found = []
    for name in names:
        part = whole.part_of(name)
        if part is not None and room[part]:
            room[part] -= 1
            found.append(name)
        if not any(room.values()):
            break
    return found


def value(number: int, label: int) -> float:
    """0 to 1: something that differs by clip and emotion."""
    return (3 * number + 5 * label) % 11 / 10


def tone(path: Path, hertz: float, seconds: float = 0.6) -> None:
    """A sine as a WAV of 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        sine = np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16000)) / 16000)
        file.writeframes((8000 * sine).astype("<i2").tobytes())


def _hume_clips() -> Iterator[tuple[int, str]]:
    """Numbers and splits: every part of the five folds has some, and so have train and val."""
    names = spread("hume_reaction-5fold-ours-v1", map(str, count(1)))
    for place, name in enumerate(names):
        yield int(name), "val" if place % 3 == 2 else "train"
    yield max(map(int, names)) + 1, "test"


def write_hume_reaction(root: Path) -> Path:
    """ABAW5's layout: videos and sounds."""
    lines = [hume.DATA_INFO.splitlines()[0]]
    for number, split in _hume_clips():
        name = f"{number:05d}"
        values = ["" if split == "test" else str(value(number, label)) for label in range(7)]
        lines.append(",".join([f"[{name}]", "Chile", split, *values]))
        video(root / f"{split}/{name}.mp4", [f"{name} {frame}" for frame in range(8)])
        tone(root / f"wav/{name}.wav", 200 + 40 * number)
    write(root / "data_info.csv", "\n".join(lines) + "\n")
    return root


FEATURES = {"egemaps": 88, "deepspectrum": 1024, "faus": 20, "vggface2": 512}


def write_muse(root: Path) -> Path:
    """MuSe's layout: features alone."""
    base = root / "c2_muse_reaction"
    labels, parts = [hume.MUSE_LABELS.splitlines()[0]], ["Id,Partition"]
    for number, split in _hume_clips():
        parts.append(f"[{number:05d}],{split.replace('val', 'devel')}")
        if split != "test":
            labels.append(",".join([f"[{number:05d}]", *(str(value(number, label)) for label in range(7))]))
        for name, width in FEATURES.items():
            lines = ["timestamp,segment_id," + ",".join(map(str, range(width)))]
            for step in range(5):
                numbers = (str(round(np.sin(number + step + n), 4)) for n in range(width))
                lines.append(f"{250 * step},{number}," + ",".join(numbers))
            write(base / f"feats/{name}/{number:05d}.csv", "\n".join(lines) + "\n")
    write(base / "labels.csv", "\n".join(labels) + "\n")
    write(base / "partition.csv", "\n".join(parts) + "\n")
    return root


def write_hume_vidmimic2(root: Path) -> Path:
    header = hume.TRAIN_SPLIT.splitlines()[0]
    tables = {"train": [header], "val": [header]}
    names = spread("hume_vidmimic2-5fold-ours-v1", map(str, count(1)))
    for place, name in enumerate([*names, str(max(map(int, names)) + 1)]):
        number = int(name)
        if place < len(names):
            values = (str(value(number, label)) for label in range(6))
            tables["val" if place % 3 == 2 else "train"].append(",".join([name, *values]))
        video(root / f"raw/{number:05d}.mp4", [f"raw {number:05d} {frame}" for frame in range(6)], fps=10)
        tone(root / f"audio/{number:05d}.wav", 200 + 40 * number)
    write(root / "train_split.csv", "\n".join(tables["train"]) + "\n")
    write(root / "valid_split.csv", "\n".join(tables["val"]) + "\n")
    return root


def write_affwild2(root: Path, num: int = 9) -> Path:
    """All three tasks on every video, the first frame of each not annotated; a test video without labels."""
    aus = [int(name.removeprefix("AU")) for name in affwild2.AU.splitlines()[0].split(",")]
    top, heads = root / affwild2.ANNOTATIONS, (affwild2.AU, affwild2.EXPR, affwild2.VA)
    names = spread("affwild2-5fold-ours-v1", (f"v{n}" for n in count()))
    for place, name in enumerate(names):
        split = affwild2.VALIDATION if place % 2 else affwild2.TRAIN
        units = [[code(place, frame, au) if frame else -1 for au in aus] for frame in range(num)]
        classes = [[(frame + place) % 8 if frame else -1] for frame in range(num)]
        affect = [
            [round(np.sin(place + frame), 3), round(np.cos(2 * frame), 3)] if frame else [-5, -5]
            for frame in range(num)
        ]
        tasks = ("AU_Detection", "EXPR_Recognition", "VA_Estimation")
        for task, head, rows in zip(tasks, heads, (units, classes, affect), strict=True):
            text = "\n".join([head.splitlines()[0], *(",".join(map(str, row)) for row in rows)]) + "\n"
            write(top / f"{task}_Challenge/{split}/{name}.txt", text)
        for frame in range(1, num + 1):
            write(root / f"cropped_aligned/{name}/{frame:05d}.jpg", picture(f"{name} {frame}"))
    for frame in (1, 2, 4):
        write(root / f"cropped_aligned/unseen/{frame:05d}.jpg", picture(f"unseen {frame}"))
    lists = root / "names_of_videos_in_each_test_set"
    for task in ("Action_Unit_Detection", "Expression_Recognition", "Valence_Arousal_Estimation"):
        write(lists / f"{task}_Challenge_test_set_release.txt", "unseen\n")
    return root


def write_c_expr_db(root: Path, num: int = 8) -> Path:
    """The challenge's test videos, and annotations in Aff-Wild2's manner of others (`annotations`)."""
    from fake.c_expr_db import NAMES

    lines = [f"image_location,{NAMES}", *(f"1/{frame:05d}.jpg,0" for frame in range(1, num + 1))]
    write(root / "CVPR_6th_ABAW_CE_test_set_sample.txt", "\n".join(lines) + "\n")
    names = spread("c_expr_db-5fold-ours-v1", (str(n) for n in count(2)))
    for place, name in enumerate(["1", *names]):
        video(root / f"videos/{name}.mp4", [f"{name} {frame}" for frame in range(1, num + 1)], fps=20)
        if place:
            codes = "".join(f"{(frame + place) % 7}\n" for frame in range(num))
            split = affwild2.VALIDATION if place == len(names) else affwild2.TRAIN
            write(root / f"annotations/{split}/{name}.txt", NAMES + "\n" + codes)
    return root


def write_reactionnet(root: Path, num: int = 8) -> Path:
    """A neutral manifest: 24 clips to train, one of each sub-scene, 8 to choose and 8 to test, one of each scene."""
    from reactionnet_datasets.labels import classes_of
    from reactionnet_models.drr_config import AUS, SCENES

    scenes, classes = classes_of("scene8"), classes_of("affectnet7")
    units = ",".join(f"au{au}_occ" for au in AUS)
    lines = [f"clip_id,frame,reaction_path,stimulus_path,subject,scene,subscene,expr,{units},caption,split"]
    for place in range(40):
        clip, split = f"c{place:03d}", "train" if place < 24 else "devel" if place < 32 else "test"
        for frame in range(num):
            paths = [f"react/{clip}/{frame}.jpg", f"stim/{clip}/{frame}.jpg"]
            labels = [classes[(place + frame) % 7], *(str(code(place, frame, au)) for au in AUS)]
            facts = [f"s{place}", scenes[place % 8], SCENES[place % 24]]
            lines.append(",".join([clip, str(frame), *paths, *facts, *labels, f"a {SCENES[place % 24]}", split]))
            for path in paths:
                write(root / path, picture(path, width=40, height=40))
    write(root / "manifest.csv", "\n".join(lines) + "\n")
    return root


def write_emotionet(root: Path) -> Path:
    """Forty pictures coded by hand."""
    aus = (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43)
    lines = ["URL,URL orig," + ",".join(f"'AU {au}'" for au in aus)]
    names = spread("emotionet-ours-v1", (f"N_{n:010d}_00001" for n in count(1)), 8)
    for place, name in enumerate(names):
        codes = ",".join(str(code(0, place, au)) for au in aus)
        lines.append(f"'http://example.org/m/{name}.jpg','http://example.com/{place}.png',{codes}")
        write(root / f"images/{name}.jpg", picture(name))
    write(root / "EmotioNet_FACS.csv", "\n".join(lines) + "\n")
    return root


def write_ck_plus(root: Path) -> Path:
    """A sequence of each subject, of two pictures; the peak is coded."""
    aus = (1, 2, 4, 5, 6, 7, 9, 12, 17, 23, 24, 25)
    for place, subject in enumerate(spread("ckplus-10fold-ours-v1", (f"S{n:03d}" for n in count(5)))):
        for frame in (1, 2):
            stem = f"{subject}_001_{frame:08d}"
            write(root / f"cohn-kanade-images/{subject}/001/{stem}.png", picture(stem, "PNG"))
            points = "".join(f"   {x + frame:.7e}   {2.5:.7e}\n" for x in range(68))
            write(root / f"Landmarks/{subject}/001/{stem}_landmarks.txt", points)
        peak = f"{subject}/001/{subject}_001_00000002"
        there = [au for n, au in enumerate(aus) if (place + n) % 3] or [12]
        write(root / f"FACS/{peak}_facs.txt", "".join(f"   {au:.7e}   3.0000000e+00\n" for au in there))
        write(root / f"Emotion/{peak}_emotion.txt", f"   {1 + place % 7:.7e}\n")
    return root


def write_bp4d(root: Path, num: int = 6) -> Path:
    aus = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
    for place, subject in enumerate(("F001", "F003", "F007")):
        codes = {frame: {au: code(place, frame, au) for au in aus} for frame in range(1, num + 1)}
        write(
            root / f"AUCoding/AU_OCC/{subject}_T1.csv", bp4d.occurrences(codes, ",".join(map(str, range(100))))
        )  # fmt: skip
        for frame in codes:
            write(root / f"Sequences(2D+3D)/{subject}/T1/{frame:03d}.jpg", picture(f"{subject} {frame}"))
    return root


def write_bp4d_plus(root: Path, num: int = 6) -> Path:
    columns = [int(au) for au in bp4d.PLUS_AUS.split(",")]
    for place, subject in enumerate(("F004", "F012", "F001", "F003")):
        rows = [[frame, *(code(place, frame, au) for au in columns)] for frame in range(1, num + 1)]
        text = "\n".join([f"0,{bp4d.PLUS_AUS}", *(",".join(map(str, row)) for row in rows)]) + "\n"
        write(root / f"RawData/AUCoding/AU_OCC/{subject}_T1.csv", text)
        for frame in range(num):
            write(root / f"RawData/2D+3D/{subject}/T1/{frame:04d}.jpg", picture(f"{subject} {frame}"))
    return root


def write_ferplus(root: Path) -> Path:
    """Eight of ten votes for one emotion: each twice to train, once to choose and to test."""
    for part, (folder, times) in enumerate((("FER2013Train", 2), ("FER2013Valid", 1), ("FER2013Test", 1))):
        lines = []
        for place in range(8 * times):
            name = f"fer{part}{place:06d}.png"
            votes = [8 if place % 8 == n else 0 for n in range(8)]
            votes[(place + 1) % 8] += 2
            lines.append(f'{name},"(0, 0, 48, 48)",{",".join(map(str, [*votes, 0, 0]))}\n')
            write(root / folder / name, picture(name, "PNG", 48, 48))
        write(root / folder / "label.csv", "".join(lines))
    return root


def write_rafdb(root: Path) -> Path:
    basic = [f"{split}_{n:05d}.jpg {1 + n % 7}\n" for split, num in (("train", 21), ("test", 14)) for n in range(num)]
    rafdb.write_subset(root, "basic", "".join(basic))
    rafdb.write_subset(root, "compound", rafdb.COMPOUND)
    return root


def write_mmi(root: Path) -> Path:
    """Sessions of two pictures with an emotion each."""
    for place, subject in enumerate(spread("mmi-10fold-ours-v1", (f"S{n:03d}" for n in count(1)))):
        folder, session = root / f"Sessions/{place + 1}", f"{subject}-001"
        video(folder / f"{session}.avi", [f"{session} {frame}" for frame in (1, 2)])
        write(folder / f"{session}.xml", mmi.emotion(1 + place % 6))
        write(folder / "session.xml", mmi.track(0))
    return root


def write_bu3dfe(root: Path) -> Path:
    """The neutral scan and one of each expression."""
    names = spread("bu3dfe-10fold-ours-v1", (f"F{n:04d}" for n in islice(count(1), 30)), 1)
    for subject in names:
        for scan in ("AN01", "DI04", "FE02", "HA03", "NE00", "SA01", "SU02"):
            write(root / f"{subject}/{subject}_{scan}WH_F2D.bmp", picture(f"{subject} {scan}", "BMP"))
    return root
