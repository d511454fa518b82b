from pathlib import Path

import numpy as np
import pytest

from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.layout import Config
from reactionnet_pipeline.layout_files import lay_out, load_layout
from reactionnet_pipeline.records import REACTION, STIMULUS, Ingested, LaidOut, Layout, Pane, Source
from reactionnet_pipeline.segment import plan_segments


def pane(role=REACTION, x=0, start_s=0.0, end_s=100.0, w=32):
    return Pane(role=role, x=x, y=0, w=w, h=48, start_s=start_s, end_s=end_s, confidence=1.0)


def ingested(tmp_path, *panes, start_s=None, end_s=None):
    """Ten seconds of 64x48, of which only the time stamps exist: a drawn layout needs no picture."""
    probe = tmp_path / "probe.npz"
    np.savez(
        probe, width=64, height=48, rotation=0, times_s=np.arange(250) / 25, keyframes=np.array([0]), duration_s=10.0,
        has_audio=False, start_s=0.0, codec="h264",
    )  # fmt: skip
    layout = Layout(panes=panes, origin="manifest")
    source = Source(video_id="v", line=1, uri="/none", split="train", layout=layout, start_s=start_s, end_s=end_s)
    return Ingested(source=source, path="/none", sha256="0" * 64, probe=str(probe))


def segments(tmp_path, *panes, length_s=60.0, **window):
    video = ingested(tmp_path, *panes, **window)
    file = lay_out(video, Config(), tmp_path)
    planned = plan_segments(LaidOut(ingested=video, layout=file, sound=None), length_s)
    return load_layout(Path(file)), [(segment.span, segment.first, segment.stop) for segment in planned]


def test_a_drawn_layout_is_taken_as_it_is_and_ends_with_the_video(tmp_path):
    layout, planned = segments(tmp_path, pane(), pane(STIMULUS, x=32))
    assert [(p.role, p.x, p.start_s, p.end_s) for p in layout.panes] == [(REACTION, 0, 0, 10), (STIMULUS, 32, 0, 10)]
    assert planned == [(0, 0, 250)]


def test_a_drawn_layout_keeps_to_the_window_that_the_manifest_asks_for(tmp_path):
    layout, planned = segments(tmp_path, pane(), start_s=2.0, end_s=4.0)
    assert [(p.start_s, p.end_s) for p in layout.panes] == [(2, 4)]
    assert planned == [(0, 50, 100)]
    assert segments(tmp_path, pane(), start_s=6.0)[1] == [(0, 150, 250)]  # another window is another layout


def test_a_layout_change_ends_a_segment_and_spans_without_a_reactor_have_none(tmp_path):
    panes = pane(end_s=2.0), pane(STIMULUS, x=32), pane(x=8, start_s=5.0)
    assert segments(tmp_path, *panes, length_s=2.5)[1] == [(0, 0, 50), (2, 125, 188), (2, 188, 250)]


@pytest.mark.parametrize(
    ("panes", "window", "reason"),
    [
        ([pane(w=65)], {}, "lies outside the video of 64x48 pixels"),
        ([pane(start_s=11.0)], {}, "from 11.0 s lies outside"),
        ([pane(end_s=2.0)], {"start_s": 5.0}, "no pane between 5.0 and inf s"),
        ([pane()], {"start_s": 50.0}, "no pane between 50.0"),
    ],
)
def test_a_drawn_layout_that_cannot_be_is_refused(tmp_path, panes, window, reason):
    with pytest.raises(SourceError, match=reason) as caught:
        segments(tmp_path, *panes, **window)
    assert caught.value.code == Code.NO_LAYOUT
