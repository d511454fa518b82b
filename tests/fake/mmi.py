"""A tiny MMI as its layout is documented (reference A16), typed by hand. Pictures show `<session> <frame>`, frames from 1.

Session 1 has action units and an emotion; 2 another state (8), a unit of one side and a code without a number; 30 is a dual
view (`30 <frame> left`, `... right`), with an emotion alone; 40 a still.
"""

from pathlib import Path

import numpy as np

from fake.printed import draw, picture, video, write

UNITS = """<?xml version="1.0" encoding="UTF-8"?>
<AUCoding>
 <ActionUnit Number="12">
  <Marker Frame="1" Type="0"/>
  <Marker Frame="3" Type="1"/>
  <Marker Frame="4" Type="2"/>
  <Marker Frame="6" Type="3"/>
  <Marker Frame="7" Type="0"/>
 </ActionUnit>
 <ActionUnit Number="06">
  <Marker Frame="2" Type="0"/>
  <Marker Frame="5" Type="2"/>
  <Marker Frame="99" Type="0"/>
 </ActionUnit>
</AUCoding>
"""
ODD = """<AUCoding xmlns="http://example.org/aus">
 <ActionUnit Number="46L"><Marker Frame="2" Type="1"/><Marker Frame="3" Type="2"/></ActionUnit>
 <ActionUnit Number="4"><Marker Frame="1" Type="0"/></ActionUnit>
 <ActionUnit Number="4B"><Marker Frame="1" Type="2"/></ActionUnit>
 <ActionUnit Number="R"><Marker Frame="1" Type="2"/></ActionUnit>
</AUCoding>
"""


def emotion(value: int) -> str:
    return f'<Session><Metatag Name="Laughter" Value="1"/><Metatag Name="Emotion" Value="{value}"/></Session>\r\n'


def track(view: int) -> str:
    return f'<session><track view="{view}"/></session>'


def write_mmi(root: Path) -> Path:
    video(root / "Sessions/1/S001-001.avi", [f"1 {frame}" for frame in range(1, 9)], fps=25)
    write(root / "Sessions/1/S001-001-oao_aucs.xml", UNITS)
    write(root / "Sessions/1/S001-001.xml", emotion(4))
    write(root / "Sessions/1/session.xml", track(0))
    video(root / "Sessions/2/s001-002.avi", [f"2 {frame}" for frame in range(1, 4)], fps=24)
    write(root / "Sessions/2/other-aucs.XML", ODD)
    write(root / "Sessions/2/S001-002.xml", "﻿" + emotion(8))
    write_dual(root / "Sessions/30/S054-003.avi", [f"30 {frame}" for frame in (1, 2)])
    write(root / "Sessions/30/S054-003.xml", emotion(6))
    write(root / "Sessions/30/session.xml", track(2))
    write(root / "Sessions/40/still.jpg", picture("40 1"))
    write(
        root / "Sessions/40/session.xml", '<session><subject id="S060"/><Metatag Name="Emotion" Value="1"/></session>'
    )
    write(root / "Sessions/.DS_Store", b"\0\0\0\1Bud1")
    return root


def write_dual(path: Path, texts: list[str]) -> None:
    """Two faces side by side."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.bit_rate, stream.pix_fmt = 128, 64, 4_000_000, "yuv420p"
        stream.codec_context.thread_count = 1
        for text in texts:
            grey_HW = np.concatenate([draw(f"{text} left"), draw(f"{text} right")], axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.stack([grey_HW] * 3, axis=-1), format="rgb24")))
        container.mux(stream.encode(None))
