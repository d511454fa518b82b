"""Tiny releases of the data sets without a confirmed layout: GFT's documented form, ReactioNet's neutral manifest, folders."""

from pathlib import Path

from fake.printed import picture, video, write

GFT = """subject,frame,'AU 1',AU02,AU12,AU14
001A,1,0,1,1,9
001A,2,0,0,-1,1
001A,3,1,,0,0
014B,1,0,0,1,0
014B,2,999,0,1,0
"""
PARTITION = "subject,split\r\n001A,train\r\n014B,test\r\n"


def write_gft(root: Path) -> Path:
    write(root / "annotations/occurrence.csv", "﻿" + GFT.replace("\n", "\r\n"))
    for frame in (1, 2, 3, 4):
        write(root / f"images/001A/{frame}.jpg", picture(f"001A {frame}"))
    video(root / "images/014B.mp4", [f"014B {frame}" for frame in (1, 2, 3)], fps=30)
    return root


MANIFEST = """clip_id,frame,reaction_path,stimulus_path,subject,scene,subscene,expr,au1_occ,au12_occ,au12_int,caption,split
c000001,15,react/c000001/000015.jpg,stim/c000001/000015.jpg,s0001,Film,film-horror,fear,1,0,3,"a man, falling",train
c000001,16,react/c000001/000016.jpg,stim/c000001/000016.jpg,s0001,film,film-horror,,,,,"a man, falling",train
c000001,18,react/c000001/000018.JPG,stim/c000001/000018.jpg,s0001,film,film-horror,Happy,0,1,5,"a man, falling",train
c000002,1,react/c000002/000001.png,,s0002,self-made video,,surprise,,1,0,,devel
"""


def write_reactionnet(root: Path) -> Path:
    write(root / "manifest.csv", MANIFEST)
    for frame in (15, 16, 18):
        suffix = "JPG" if frame == 18 else "jpg"
        write(root / f"react/c000001/{frame:06d}.{suffix}", picture(f"react c000001 {frame}"))
        write(root / f"stim/c000001/{frame:06d}.jpg", picture(f"stim c000001 {frame}"))
    write(root / "react/c000002/000001.png", picture("react c000002 1", "PNG"))
    return root


def write_image_folder(root: Path) -> Path:
    write(root / "0000045/001.jpg", picture("0000045/001.jpg"))
    write(root / "0000045/001.png", picture("0000045/001.png", "PNG"))
    write(root / "0000045/a b.c.JPEG", picture("0000045/a b.c.JPEG"))
    write(root / f"0000099/{'long' * 40}.bmp", picture("long", "BMP"))
    write(root / "0000099/notes.txt", "no picture")
    write(root / "0000099/._001.jpg", b"\0\5\x16\7")
    write(root / "Thumbs.db", b"\xd0\xcf")
    return root
