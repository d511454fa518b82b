"""A tiny Aff-Wild2 as its layout is documented (reference A3), typed by hand: ABAW6, ABAW1 and the list of MTL.

Crops show `<video> <frame>`. `2-30-640x360` has two people; `alpha_left` has gaps (3, 4), one label line more than crops
in the AU task and one less in the EXPR task; it trains AU and validates EXPR.
"""

from pathlib import Path

from fake.printed import picture, video, write

ANNOTATIONS = "6th ABAW Annotations"
AU = """AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26
0,0,0,0,0,0,1,0,0,0,1,0
-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1
1,0,0,0,0,0,0,0,0,0,0,0
1,1,0,0,0,0,0,0,0,0,0,0
0,0,1,0,0,0,-1,0,0,0,0,1
1,0,0,0,0,0,1,0,0,0,0,1
0,0,0,1,0,0,0,0,0,0,0,0
"""
AU_RIGHT = """AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26
0,0,0,0,0,0,0,0,0,0,0,1
0,0,0,0,0,0,1,0,0,0,0,0
"""
EXPR = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n0\n4\n-1\n7\n5\n"
VA = "valence,arousal\n0.234,-0.118\n-5,-5\n-1,1\n"
TRAIN, VALIDATION = "Train_Set", "Validation_Set"
CROPS = {
    "alpha_left": (1, 2, 5, 6),
    "alpha_right": (1, 2),
    "beta": (1, 2, 3),
    "gamma": (1, 3, 4),
    "delta": (1,),  # no task and no list has it
}


def write_crops(root: Path) -> None:
    for name, frames in CROPS.items():
        for frame in frames:
            suffix = "JPG" if (name, frame) == ("beta", 2) else "jpg"
            write(root / f"cropped_aligned/{name}/{frame:05d}.{suffix}", picture(f"{name} {frame}"))
    write(root / "cropped_aligned/.DS_Store", b"\0\0\0\1Bud1")
    write(root / "cropped_aligned/beta/notes.txt", "a stray file")


def write_abaw6(root: Path) -> Path:
    write_crops(root)
    top = root / ANNOTATIONS
    write(top / f"AU_Detection_Challenge/{TRAIN}/alpha_left.txt", AU)
    write(top / f"AU_Detection_Challenge/{VALIDATION}/alpha_right.txt", AU_RIGHT.replace("\n", "\r\n"))
    write(top / f"EXPR_Recognition_Challenge/{TRAIN}/beta.txt", "﻿" + EXPR)
    write(top / f"EXPR_Recognition_Challenge/{VALIDATION}/alpha_left.txt", EXPR)
    write(top / f"VA_Estimation_Challenge/{TRAIN}/alpha_left.txt", VA)
    write(top / f"VA_Estimation_Challenge/{VALIDATION}/beta.txt", VA)
    lists = root / "names_of_videos_in_each_test_set"
    write(lists / "Action_Unit_Detection_Challenge_test_set_release.txt", "gamma\nbeta\n")
    write(lists / "Expression_Recognition_Challenge_test_set_release.txt", "gamma\n")
    header = "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"
    sample = "".join(f"gamma/{frame:05d}.jpg,0\n" for frame in (1, 2, 3))
    write(root / "CVPR_6th_ABAW_Expr_test_set_sample.txt", header + sample)
    write(root / "CVPR_6th_ABAW_CE_test_set_sample.txt", "image_location,Fearfully_Surprised\n1/00001.jpg,0\n")
    return root


def write_raw(root: Path) -> None:
    video(root / "batch1/alpha.mp4", [f"alpha {frame}" for frame in range(1, 8)], fps=10)


def write_abaw1(root: Path) -> Path:
    for frame in (1, 2):
        write(root / f"cropped/beta/{frame:05d}.jpg", picture(f"beta {frame}"))
        write(root / f"cropped/gamma/{frame:05d}.jpg", picture(f"gamma {frame}"))
    header = "AU1,AU2,AU4,AU6,AU12,AU15,AU20,AU25\n"
    faces = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise\n"
    write(root / "annotations/AU_Set/Training_Set/beta.txt", header + "1,0,0,0,0,0,1,0\n0,0,0,0,0,0,0,1\n")
    write(root / "annotations/AU_Set/Validation_Set/gamma.txt", header + "0,0,0,0,0,0,0,0\n0,0,0,0,1,0,0,0\n")
    write(root / "annotations/EXPR_Set/Training_Set/beta.txt", faces + "6\n5\n")
    write(root / "annotations/EXPR_Set/Validation_Set/gamma.txt", faces + "1\n-1\n")
    return root


MTL = """image,valence,arousal,expression,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26
beta/00003.jpg,0.5,-0.25,7,0,0,0,0,0,0,1,0,0,0,0,0
beta/00001.jpg,-5,-5,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1
"""


def write_mtl(root: Path) -> Path:
    write_crops(root)
    write(root / "4th ABAW Annotations/MTL_Challenge/train_set.txt", MTL)
    aus = "image,valence,arousal,expression,aus\ngamma/00004.jpg,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0\n"
    write(root / "4th ABAW Annotations/MTL_Challenge/validation_set.txt", aus)
    return root
