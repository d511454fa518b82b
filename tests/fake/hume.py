"""Tiny Hume data sets as their layouts are documented (reference A2 and A5), typed by hand.

Pictures show `<number> <frame>`: frames of videos count from 0, face crops from 1 (`face 00001 3`).
"""

import wave
from pathlib import Path

import numpy as np

from fake.printed import picture, video, write

# one empty line, another order of columns than the labels', a byte order mark, CRLF
DATA_INFO = """File_ID,Country,Split,Adoration,Amusement,Anxiety,Disgust,Empathic-Pain,Fear,Surprise
[00001],South Africa,train,0.12,0.71,0.00,0.00,0.03,0.00,0.55
[00002],United States,val,0.00,0.00,0.44,0.83,0.20,0.31,0.10

[00003],United States,test,,,,,,,
[00004],South Africa,train,1.00,0.00,0.00,0.00,0.00,0.00,1
"""
LENGTHS = {"00001": 5, "00002": 3, "00003": 4, "00004": 6}  # frames
RATES = {"00001": 30, "00002": 15, "00003": 30, "00004": 25}
PLACES = {"00001": "train/00001.mp4", "00002": "val/00002.MP4", "00003": "test/00003.mp4", "00004": "train/00004.mp4"}


def sound(path: Path, seconds: float, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.full(int(seconds * 16000), level, "<i2").tobytes())


def write_abaw5(root: Path, wav: bool = True) -> Path:
    write(root / "data_info.csv", "﻿" + DATA_INFO.replace("\n", "\r\n"))
    for name, place in PLACES.items():
        mp4 = root / place.replace(".MP4", ".mp4")
        video(mp4, [f"{name} {frame}" for frame in range(LENGTHS[name])], fps=RATES[name])
        mp4.rename(root / place)
        if wav:
            sound(root / f"wav/{name}.wav", 0.5, 1000 * int(name))
    write(root / "train/.DS_Store", b"\0\0\0\1Bud1")
    write(root / "val/Thumbs.db", b"\xd0\xcf")
    return root


MUSE_LABELS = """File_ID,Adoration,Amusement,Anxiety,Disgust,Empathic-Pain,Fear,Surprise
[00001],0.12,0.71,0.00,0.00,0.03,0.00,0.55
[00002],0.00,0.00,0.44,0.83,0.20,0.31,0.10
"""
MUSE_PARTITION = "Id,Partition\n[00001],train\n[00002],devel\n[00003],test\n"


def write_muse(root: Path) -> Path:
    base = root / "c2_muse_reaction"
    write(base / "labels.csv", MUSE_LABELS)
    write(base / "partition.csv", MUSE_PARTITION.replace("\n", "\r\n"))
    for number in (1, 2, 3):
        faces = [f"{250 * step},{number},{number}.{step},-{step}.5\n" for step in range(4)]
        faces[3] = f"750,{number},nan,\n" if number == 1 else faces[3]  # no face was found
        write(base / f"feats/vggface2/{number:05d}.csv", "timestamp,segment_id,0,1\n" + "".join(faces))
        voice = [f"{500 * step},{number},0.{number}{step}\n" for step in range(3)]
        write(base / f"feats/egemaps/{number:05d}.csv", "timestamp,segment_id,F0\n" + "".join(voice))
    return root


TRAIN_SPLIT = """Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy
7,0.0,0.333333,0.0,0.0,0.666667,0.333333
2,0.25,0.0,0.5,0.0,0.0,0.0
"""
VALID_SPLIT = """Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy
11,0.0,0.0,1.0,0.125,0.0,0.0
"""
CROPS = {"00002": (1, 2, 3), "00007": (1, 2, 4), "00011": (1, 2), "00003": (1, 2)}  # 00007 lacks 3: no face was found


def write_vidmimic2(root: Path, faces: bool = True) -> Path:
    write(root / "train_split.csv", TRAIN_SPLIT)
    write(root / "valid_split.csv", VALID_SPLIT)
    for name, frames in CROPS.items():
        video(root / f"raw/{name}.mp4", [f"raw {name} {frame}" for frame in range(4)], fps=20)
        for frame in frames if faces else ():
            write(root / f"face_images/{name}/{frame:05d}.jpg", picture(f"face {name} {frame}"))
        write(root / f"wav2vec2/{name}.pkl", b"\x80\x04.")
        write(root / f"vit/{name}.pkl", b"\x80\x04.")
    return root
