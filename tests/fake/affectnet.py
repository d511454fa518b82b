"""Tiny AffectNets as their layouts are documented (reference A6): the original release and the later one.

Pictures show their listed path, or `train 17`. Values are invented.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fake.printed import picture, write

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
POINTS = ";".join(f"{n}.5" for n in range(136))
TRAINING = f"""{HEADER}
12/aaaa0001.jpg,134,130,899,890,{POINTS},1,0.785714,-0.055556
12/aaaa0002.jpg,20,21,137,138,{POINTS},0,-0.017253,0.004313
13/aaaa0003.jpg,0,0,200,200,{POINTS},8,-2,-2
13/aaaa0004.tif,1,2,3,4,{POINTS},7,-0.5,0.25
13/aaaa0004.tif,1,2,3,4,{POINTS},7,-0.5,0.25
13/aaaa0005.jpg,1,2,3,4,{POINTS},10,-2,-2
13/aaaa0006.bmp,1,2,3,4,{POINTS},2,-0.75,-0.5
13/aaaa0006.jpg,NULL,NULL,NULL,NULL,NULL,5,-0.25,0.5
"""
# without a header, as some copies are
VALIDATION = f"7/bbbb0001.jpg,5,6,7,8,{POINTS},4,-0.25,0.75\n7/bbbb0002.JPG,5,6,7,8,{POINTS},9,-2,-2\n"


def write_original(root: Path) -> Path:
    write(root / "Manually_Annotated_file_lists/training.csv", "﻿" + TRAINING.replace("\n", "\r\n"))
    write(root / "Manually_Annotated_file_lists/validation.csv", VALIDATION)
    for path in (
        "12/aaaa0001.jpg",
        "12/aaaa0002.jpg",
        "13/aaaa0003.jpg",
        "13/aaaa0005.jpg",
        "13/aaaa0006.jpg",
        "7/bbbb0001.jpg",
    ):
        write(root / f"Manually_Annotated_Images/{path}", picture(path))
    write(root / "Manually_Annotated_Images/13/aaaa0004.jpg", picture("13/aaaa0004.tif"))  # the sibling alone
    write(root / "Manually_Annotated_Images/13/aaaa0006.bmp", picture("13/aaaa0006.bmp", "BMP"))
    write(
        root / "Manually_Annotated_Images/7/bbbb0002.JPG", picture("7/bbbb0002.JPG", "PNG")
    )  # a PNG, whatever it is called
    write(root / "Manually_Annotated_Images/12/Thumbs.db", b"\xd0\xcf")
    return root


# number: expression, valence, arousal; numbers are sparse
LATER = {
    "train": {"0": (0, "-0.176846", "-0.0776398"), "2": (6, "-0.4", "0.6"), "17": (7, "-0.63", "0.43")},
    "val": {"1": (3, "0.1", "0.9"), "5495": (7, "-0.2", "0.3")},
}


def write_later(root: Path, splits: Mapping[str, Mapping[str, tuple[int, str, str]]] = LATER) -> Path:
    for split, rows in splits.items():
        for number, (exp, val, aro) in rows.items():
            write(root / f"{split}_set/images/{number}.jpg", picture(f"{split} {number}"))
            folder = root / f"{split}_set/annotations"
            folder.mkdir(parents=True, exist_ok=True)
            written = val.encode() if number == "17" else val
            for kind, value in (("exp", str(exp)), ("val", written), ("aro", np.float64(aro))):
                np.save(
                    folder / f"{number}_{kind}.npy", np.array(value)
                )  # 0-d; strings (one of bytes), but for arousal
            np.save(folder / f"{number}_lnd.npy", np.arange(136, dtype=float) + int(number))
    return root


def write_cage_lists(root: Path) -> None:
    for split, rows in LATER.items():
        lines = [f"{number},{exp},{val},{aro}\n" for number, (exp, val, aro) in rows.items()]
        write(
            root / f"affectnet_annotations/{split}_set_annotation_without_lnd.csv",
            "number,exp,val,aro\n" + "".join(lines),
        )
