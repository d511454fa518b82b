import numpy as np
import pytest

from reactionnet_pipeline.segment import cut_span
from reactionnet_pipeline.video import VideoInfo


def info(times_s, keyframes=(0,)):
    return VideoInfo(
        width=64, height=48, rotation=0, times_s=np.asarray(times_s, float), keyframes=np.asarray(keyframes),
        duration_s=float(times_s[-1]), has_audio=False, start_s=0.0, codec="h264",
    )  # fmt: skip


EVEN = np.arange(0, 100, 0.04)


@pytest.mark.parametrize(("seconds", "num"), [(1, 1), (20, 1), (29, 1), (31, 2), (50, 2), (51, 3), (100, 5)])
def test_segments_are_near_the_length_asked_for(seconds, num):
    stop = round(seconds / 0.04)
    edges = cut_span(info(EVEN), 0, stop, 20)
    assert (edges[0], edges[-1], len(edges)) == (0, stop, num + 1)
    assert edges == sorted(set(edges))


def test_a_key_frame_nearby_is_the_border():
    assert cut_span(info(EVEN, [0, 450, 520, 1010]), 0, 1500, 20) == [0, 520, 1010, 1500]


def test_a_key_frame_far_away_is_not():
    assert cut_span(info(EVEN, [0, 400, 1100]), 0, 1000, 20) == [0, 500, 1000]


def test_a_span_in_the_middle_is_cut_from_its_own_start():
    assert cut_span(info(EVEN), 250, 1250, 20) == [250, 750, 1250]


@pytest.mark.parametrize(("first", "stop"), [(5, 5), (7, 5), (2500, 2500)])
def test_a_span_without_a_frame_has_no_segment(first, stop):
    assert cut_span(info(EVEN), first, stop, 20) == [first]


def test_a_single_frame_is_a_segment():
    assert cut_span(info(EVEN), 2499, 2500, 20) == [2499, 2500]


def test_borders_follow_the_clock_where_the_rate_varies():
    slow_then_fast = np.concatenate([np.arange(0, 50, 1.0), np.arange(50, 100, 0.02)])
    edges = cut_span(info(slow_then_fast), 0, len(slow_then_fast), 20)
    np.testing.assert_allclose(slow_then_fast[edges[:-1]], [0, 20, 40, 60, 80], atol=1)


def test_a_pause_longer_than_a_segment_makes_no_empty_segment():
    edges = cut_span(info([0, 1, 2, 90, 91]), 0, 5, 20)
    assert edges == sorted(set(edges))
