"""Tiny BP4D and BP4D+ as their layouts are documented (reference A8, A9); codes are invented.

Pictures show `<subject> <task> <coded frame>`. BP4D: F001 T1 has names of four digits, T3 of three, M001 T1 none at all.
"""

import io
import zipfile
from pathlib import Path

from fake.printed import picture, video, write

# sequence -> frame -> {AU: code}; AUs that are not named are 0 if coded in BP4D (1, 2, 4, 6, 12, 17), else 9
BP4D = {
    "F001_T1": {98: {1: 1, 12: 1}, 99: {2: 9, 12: 1}, 100: {12: 0, 17: 9}},
    "F001_T3": {1: {}, 2: {6: 1}},
    "M001_T1": {7: {4: 1}, 8: {4: 1}},
}
CODED = (1, 2, 4, 6, 12, 17)
INTENSITY = {"F001_T1": "98,3\n99,9\n100,0\n", "F001_T3": "1,0\n2,5\n", "M001_T1": "7,1\n8,2\n"}  # of AU 12
DIGITS = {"F001_T1": 4, "F001_T3": 3, "M001_T1": 1}


def occurrences(codes: dict[int, dict[int, int]], header: str) -> str:
    lines = [header]
    for frame, of_au in codes.items():
        cells = [of_au.get(au, 0 if au in CODED else 9) for au in range(1, 99)]
        lines.append(",".join(map(str, [frame, *cells, 9])))
    return "\n".join(lines) + "\n"


def write_codes(root: Path, spelling: str = "first", header: str | None = None) -> None:
    header = header or ",".join(map(str, range(100)))
    for number, (name, codes) in enumerate(BP4D.items()):
        text = occurrences(codes, header)
        text = "﻿" + text.replace("\n", "\r\n") if number == 0 else text
        if spelling == "first":
            write(root / f"AUCoding/AU_OCC/{name}.csv", text)
            write(root / f"AU-Intensity-Codes3.0/AU12/{name}_12.csv", INTENSITY[name])
        else:
            write(root / f"AUCoding/{name}.csv", text)
            write(root / f"AUCoding/AU_INT/AU12/{name}_AU12.csv", INTENSITY[name])
    write(root / "AUCoding/.DS_Store", b"\0")


def write_bp4d(root: Path, spelling: str = "first") -> Path:
    write_codes(root, spelling)
    pictures = root / ("Sequences(2D+3D)" if spelling == "first" else "2D+3D")
    for name, codes in BP4D.items():
        subject, task = name.split("_")
        # pictures before and behind the coded ones, which nobody asked for
        for frame in (min(codes) - 1, *codes, max(codes) + 1):
            suffix = "JPG" if name == "M001_T1" else "jpg"
            write(
                pictures / f"{subject}/{task}/{frame:0{DIGITS[name]}d}.{suffix}", picture(f"{subject} {task} {frame}")
            )
        write(pictures / f"{subject}/{task}/Thumbs.db", b"\xd0\xcf")
    return root


def write_bp4d_videos(root: Path) -> Path:
    """The video release: `2F01_01.avi` is F001 T1, `_07` is T3; picture n of a video is coded frame n."""
    write_codes(root)
    for stem, name, num in (("2F01_01", "F001_T1", 101), ("2F01_07", "F001_T3", 3), ("2M01_01", "M001_T1", 9)):
        video(root / f"Videos/{stem}.avi", [f"{name.replace('_', ' ')} {frame}" for frame in range(1, num + 1)])
    return root


# BP4D+: columns are not contiguous; position 8 is AU 10, position 7 AU 9
PLUS_AUS = (
    "1,2,4,5,6,7,9,10,11,12,13,14,15,16,17,18,19,20,22,23,24,27,28,29,30,31,32,33,34,35,36,37,38,39"
)  # fmt: skip
PLUS = {
    "F001_T1": "1,0,0,0,0,1,1,0,1,0,1,0,0,0,9" + ",0" * 20 + "\n2,0,0,0,0,1,1,0,1,0,0,0,0,1,9" + ",0" * 20 + "\n",
    "F001_T6": "1,1,0,0,0,0,0,9,0,0,0,0,0,0,0" + ",0" * 20 + "\n",
    "F041_T7": "1,1,0,0,0,0,0,0,0,0,0,0,0,0,0" + ",0" * 20 + "\n",
    "M002_T8": "1,0,0,1,0,0,0,0,0,0,0,0,0,0,0" + ",0" * 19 + ",1\n",
}


def write_bp4d_plus(root: Path, header: str = "0," + PLUS_AUS) -> Path:
    for name, rows in PLUS.items():
        subject, task = name.split("_")
        write(root / f"RawData/AUCoding/AU_OCC/{name}.csv", header + "\n" + rows)
        write(root / f"RawData/AUCoding/AU_INT/AU06/{name}_AU06.csv", "1,2\n" if name != "F001_T1" else "1,4\n2,9\n")
        pictures = {
            # picture 0 is coded frame 1
            f"{subject}/{task}/{number:04d}.jpg": picture(f"{subject} {task} {number + 1}")
            for number in range(rows.count("\n") + 1)
        }
        if subject == "F001":
            for path, data in pictures.items():
                write(root / f"RawData/2D+3D/{path}", data)
        else:
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("__MACOSX/._x", b"\0")
                for path, data in pictures.items():
                    archive.writestr(zipfile.ZipInfo(path), data)
            write(root / f"RawData/2D+3D/{subject}.zip", file.getvalue())
    write(root / "RawData/2D+3D/F001/T2/0000.jpg", picture("F001 T2 1"))  # a task that nobody coded
    write(root / "RawData/Physiology/F001/T1/BP_mmHg.txt", "80\n")
    return root
