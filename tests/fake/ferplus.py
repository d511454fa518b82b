"""A tiny FER+ as its two forms are documented (reference A15). Votes are invented; pictures show their names.

The fourth row has no name; the picture of row n shows `ferNNNNNNN`.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from fake.printed import draw, write

VOTES = """Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0
Training,fer0000001.png,0,9,1,0,0,0,0,0,0,0
Training,fer0000002.png,5,5,0,0,0,0,0,0,0,0
Training,,0,0,0,0,0,0,0,0,0,10
Training,fer0000004.png,1,0,0,0,0,0,0,8,0,0
PublicTest,fer0000005.png,0,0,0,0,2,1,0,7,0,0
PublicTest,fer0000006.png,0,0,2,0,0,0,2,0,6,0
PrivateTest,fer0000007.png,0,0,0,8,0,0,2,0,0,0
"""
EMOTIONS = (0, 3, 6, 2, 1, 0, 5, 4)
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}


def write_tables(root: Path) -> Path:
    write(root / "fer2013new.csv", VOTES.replace("\n", "\r\n"))
    lines = ["emotion,pixels,Usage"]
    for number, (row, emotion) in enumerate(zip(VOTES.split("\n")[1:], EMOTIONS, strict=False)):
        pixels = " ".join(map(str, draw(f"fer{number:07d}", 48, 48).ravel()))
        lines.append(f"{emotion},{pixels},{row.split(',')[0]}")
    write(root / "fer2013.csv", "\ufeff" + "\n".join(lines) + "\n")
    return root


def write_folders(root: Path) -> Path:
    for usage, folder in FOLDERS.items():
        lines = []
        for row in VOTES.split("\n")[1:-1]:
            kind, name, votes = row.split(",", 2)
            if kind == usage and name:
                lines.append(f'{name},"(0, 0, 48, 48)",{votes}\n')
                file = io.BytesIO()
                Image.fromarray(draw(name[:-4], 48, 48).astype(np.uint8)).save(file, "PNG")
                write(root / folder / name, file.getvalue())
        write(root / folder / "label.csv", "".join(lines))
        write(root / folder / ".DS_Store", b"\0")
    return root
