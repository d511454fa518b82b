"""A tiny CK+ as its README documents it (reference A13): three sequences of two subjects, values invented.

Pictures show their names. S005_001 has everything; S005_002 has no emotion (no file); S138_004 is coded, without landmarks.
"""

from pathlib import Path

from fake.printed import picture, write

NUM_FRAMES = {"S005_001": 5, "S005_002": 2, "S138_004": 3}
EMOTIONS = {"S005_001": "   3.0000000e+00\n", "S138_004": "   7.0000000e+00 \r\n"}
FACS = {
    "S005_001": "   1.0000000e+00   2.0000000e+00\n   4.0000000e+00   0.0000000e+00\n   7.0000000e+00   3.0000000e+00\n",
    "S005_002": "   1.2000000e+01   5.0000000e+00\r\n",
}


def write_ck_plus(root: Path) -> Path:
    for name, num in NUM_FRAMES.items():
        place = name.replace("_", "/")
        for frame in range(1, num + 1):
            stem = f"{name}_{frame:08d}"
            write(root / f"cohn-kanade-images/{place}/{stem}.png", picture(f"{name} {frame}", "PNG"))
            if name != "S138_004":
                points = "".join(f"   {x + frame:.7e}   {2.5:.7e}\n" for x in range(68))
                write(root / f"Landmarks/{place}/{stem}_landmarks.txt", points)
        write(root / f"cohn-kanade-images/{place}/.DS_Store", b"\0")
        for folder, kind, texts in (("Emotion", "emotion", EMOTIONS), ("FACS", "facs", FACS)):
            (root / folder / place).mkdir(parents=True, exist_ok=True)  # empty where nothing was coded
            if name in texts:
                write(root / f"{folder}/{place}/{name}_{num:08d}_{kind}.txt", texts[name])
    return root
