"""A tiny C-EXPR-DB as ABAW6 gave it (reference A4), typed by hand. Pictures show `<video> <frame>`, frames from 1."""

from pathlib import Path

from fake.printed import picture, video, write

NAMES = (
    "Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,"
    "Sadly_Angry"
)
SAMPLE = f"""image_location,{NAMES}
1/00001.jpg,0
1/00002.jpg,0
1/00003.jpg,0
12/00001.jpg,0
12/00002.jpg,0
"""
FRAMES = {"1": 4, "12": 2}  # one more than listed, as many as listed
LABELS = NAMES + "\n4\n-1\n6\n"
TWELVE = LABELS.replace("Sadly_Angry\n", "Sadly_Angry,Happily_Disgusted,Other\n").replace("\n6", "\n8")


def write_c_expr_db(root: Path) -> Path:
    write(root / "CVPR_6th_ABAW_CE_test_set_sample.txt", SAMPLE.replace("\n", "\r\n"))
    for name, num in FRAMES.items():
        suffix = "mp4" if name == "1" else "avi"
        video(root / f"videos/{name}.{suffix}", [f"{name} {frame}" for frame in range(1, num + 1)], fps=20)
    return root


def write_crops(root: Path) -> None:
    for name, frame in (("1", 1), ("1", 3), ("12", 1), ("12", 2)):  # 2 has no face
        write(root / f"cropped_aligned/{name}/{frame:05d}.jpg", picture(f"crop {name} {frame}"))
