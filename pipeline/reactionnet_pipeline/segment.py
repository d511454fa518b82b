"""Stage 2: cut a laid-out source into stretches of about a minute that are decoded independently of one another."""

from itertools import pairwise

import numpy as np

from reactionnet_datasets.stores import as_place
from reactionnet_pipeline.ingest import load_info
from reactionnet_pipeline.layout_files import load_layout
from reactionnet_pipeline.records import REACTION, LaidOut, Segment
from reactionnet_pipeline.video import VideoInfo


def plan_segments(laid_out: LaidOut, length_s: float) -> list[Segment]:
    """Segments in time order. A layout change always ends one; within a span they are cut near every `length_s`.

    Spans without a reaction pane are left out: there is no face to follow.
    """
    info, layout = load_info(laid_out.ingested.probe), load_layout(as_place(laid_out.layout))
    segments = []
    for span, (start_s, end_s, panes) in enumerate(layout.spans()):
        if not any(pane.role == REACTION for pane in panes):
            continue
        edges = cut_span(info, info.frame_at(start_s), info.frame_at(end_s), length_s)
        segments += [
            Segment(laid_out=laid_out, span=span, number=number, first=first, stop=stop)
            for number, (first, stop) in enumerate(pairwise(edges))
        ]
    return segments


def cut_span(info: VideoInfo, first: int, stop: int, length_s: float) -> list[int]:
    """Frame numbers of the borders, `first` and `stop` included; a key frame nearby is preferred, it saves decoding."""
    if stop <= first:
        return [first]
    start_s, end_s = info.times_s[first], info.times_s[stop - 1]
    edges = [first]
    for number in range(1, max(1, round((end_s - start_s) / length_s))):
        ideal_s = start_s + number * length_s
        near = info.keyframes[np.abs(info.times_s[info.keyframes] - ideal_s) <= length_s / 8]
        ideal = info.frame_at(ideal_s)
        edge = int(near[np.abs(info.times_s[near] - ideal_s).argmin()]) if near.size else ideal
        if edges[-1] < edge < stop:
            edges.append(edge)
    return [*edges, stop]
