"""A tiny DISFA as its layout is documented (reference A10): two subjects, 7 and 6 frames; written by hand, not by code.

Pictures show `<subject> <label frame>`, so that a picture and its scores provably belong together.
"""

from pathlib import Path

import numpy as np

from fake.printed import video, write

AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
# subject -> AU -> scores from frame 1 on; what is not listed is 0
SCORES = {
    "SN001": {12: (0, 1, 2, 3, 4, 5, 0), 4: (5, 0, 0, 0, 0, 0, 1), 26: (0, 0, 0, 2, 0, 0, 0)},
    "SN010": {12: (2, 0, 0, 0, 0, 3), 1: (0, 0, 4, 0, 0, 0)},
}
NUM_FRAMES = {"SN001": 7, "SN010": 6}


def points(subject: str, frame: int) -> np.ndarray:
    """66 invented points that tell subject and frame."""
    return np.arange(132, dtype=np.float64).reshape(66, 2) + 1000 * int(subject[2:]) + frame


def write_disfa(root: Path) -> Path:
    from scipy.io import savemat

    for subject, num in NUM_FRAMES.items():
        for au in AUS:
            scores = SCORES[subject].get(au, (0,) * num)
            ending = "\r\n" if (subject, au) == ("SN001", 12) else "\n"
            text = "".join(f"{frame},{score}{ending}" for frame, score in enumerate(scores, 1))
            mark = "﻿" if (subject, au) == ("SN001", 4) else ""
            write(root / f"ActionUnit_Labels/{subject}/{subject}_au{au}.txt", mark + text)
        for camera, side in (("Videos_LeftCamera", "Left"), ("Video_RightCamera", "Right")):
            texts = [f"{subject} {frame}{' right' * (side == 'Right')}" for frame in range(1, num + 1)]
            video(root / f"{camera}/{side}Video{subject}_comp.avi", texts, fps=20, width=128, height=96)
        for frame in range(1, num + 1):
            # SN001 counts from 0, SN010 has the other spelling, from 1; one frame has none
            name = f"SN001_{frame - 1:04d}_lm.mat" if subject == "SN001" else f"l{frame:05d}_lm.mat"
            if (subject, frame) != ("SN010", 4):
                path = root / f"Landmark_Points/{subject}/tmp_frame_lm/{name}"
                path.parent.mkdir(parents=True, exist_ok=True)
                savemat(path, {"pts": points(subject, frame)})
    write(root / "ActionUnit_Labels/.DS_Store", b"\0\0\0\1Bud1")
    write(root / "Videos_LeftCamera/Thumbs.db", b"\xd0\xcf\x11\xe0")
    return root
