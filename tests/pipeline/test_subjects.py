import random

import numpy as np
import pytest

from reactionnet_pipeline.records import REACTION, Pane
from reactionnet_pipeline.subjects import Person, Track, choose_major, name_subjects, people, runs, stitch

LEFT, RIGHT, BELOW = (0, 0, 200, 200), (200, 0, 200, 200), (0, 200, 200, 200)


def track(x, y=50, frames=(0, 50), own=None, span=0, pane=0, part=0, step=0.0):
    """A face of 40 pixels that moves by `step` a frame; by default its segment writes all its frames."""
    numbers = np.arange(*frames)
    boxes = np.stack([x + step * (numbers - frames[0]), *(np.full(len(numbers), v) for v in (y, 40, 40))], 1)
    written = np.ones(len(numbers), bool) if own is None else (numbers >= own[0]) & (numbers < own[1])
    return Track(span=span, pane=pane, part=part, frames=numbers, boxes=boxes, own=written, rows=numbers - frames[0])


def panes(*rects):
    return [
        Pane(role=REACTION, **dict(zip("xywh", rect, strict=True)), start_s=0, end_s=9, confidence=1.0)
        for rect in rects
    ]


def first_boxes(persons):
    return [tuple(person.chains[0][0].boxes[0][:2]) for person in persons]


def person(num_frames):
    return Person(chains=((track(0, frames=(0, num_frames)),),))


def test_a_face_goes_on_across_segments_by_the_frames_that_both_decoded():
    parts = [track(0, frames=(0, 75), own=(0, 50)), track(2, frames=(25, 125), own=(50, 100), part=1),
             track(4, frames=(75, 150), own=(100, 150), part=2)]  # fmt: skip
    (chain,) = stitch(random.Random(1).sample(parts, 3))
    assert [one.part for one in chain] == [0, 1, 2]
    assert sum(one.own.sum() for one in chain) == 150


def test_two_people_who_cross_at_the_border_keep_their_own_tracks():
    before = [track(0, frames=(0, 75), own=(0, 50), step=2), track(150, frames=(0, 75), own=(0, 50), step=-2)]
    after = [track(100, frames=(25, 100), own=(50, 100), part=1, step=-2),
             track(50, frames=(25, 100), own=(50, 100), part=1, step=2)]  # fmt: skip
    first, second = stitch(before + after)
    assert [one.boxes[0][0] for one in first] == [0, 50]
    assert [one.boxes[0][0] for one in second] == [150, 100]


def test_a_track_that_lies_in_the_padding_alone_is_the_neighbours():
    chains = stitch([track(0, frames=(0, 50)), track(100, frames=(40, 60), own=(0, 0))])
    assert len(chains) == 1


def test_segments_that_are_not_neighbours_and_other_panes_are_not_joined():
    assert len(stitch([track(0), track(0, part=2), track(0, pane=1), track(0, span=1)])) == 4


def test_people_stand_in_reading_order():
    chains = stitch([track(300, y=60, pane=1), track(50, y=250, pane=2), track(20, y=50, pane=0)])
    assert first_boxes(people(chains, {0: panes(LEFT, RIGHT, BELOW)})) == [(20, 50), (300, 60), (50, 250)]


def test_who_comes_back_to_a_pane_is_the_nearest_who_left_it():
    chains = stitch(
        [track(0, frames=(0, 50)), track(120, frames=(0, 40)), track(110, frames=(60, 90)), track(5, frames=(55, 90))]
    )
    persons = people(chains, {0: panes(LEFT)})
    assert [[chain[0].boxes[0][0] for chain in one.chains] for one in persons] == [[0, 5], [120, 110]]


def test_a_lone_person_stays_the_same_when_the_layout_changes():
    chains = stitch([track(0, span=0), track(300, span=1, frames=(50, 90))])
    (one,) = people(chains, {0: panes(LEFT), 1: panes(RIGHT)})
    assert one.num_frames == 90


def test_two_people_of_one_pane_never_become_one_when_a_third_leaves():
    full = [track(0), track(100), track(300, pane=1)]
    later = [track(0, span=1, frames=(50, 90)), track(100, span=1, frames=(50, 90))]
    persons = people(stitch(full + later), {0: panes(LEFT, RIGHT), 1: panes(LEFT)})
    assert [one.num_frames for one in persons] == [90, 90, 50]
    for one in persons:
        frames = np.concatenate([t.frames[t.own] for chain in one.chains for t in chain])
        assert len(frames) == len(set(frames))


def test_nobody_is_no_people():
    assert people([], {}) == []


@pytest.mark.parametrize(
    ("lengths", "ids", "names"),
    [
        ((9, 9), ("ann", "bob"), ["ann", "bob"]),
        ((2, 9), ("ann",), ["v#1", "ann"]),
        ((9, 2, 5), ("ann", "bob"), ["ann", "v#2", "bob"]),
        ((9,), ("ann", "bob"), ["v#1"]),
        ((9, 2), (), ["v#1", "v#2"]),
        ((), ("ann",), []),
    ],
)
def test_ids_of_the_manifest_go_to_people_only_where_nobody_is_guessed(lengths, ids, names):
    assert name_subjects([person(n) for n in lengths], "v", ids) == names


def test_the_major_subject_is_drawn_by_a_seed_among_the_long_seen_whatever_their_order():
    names, persons = ["ann", "bob", "cat"], [person(100), person(60), person(40)]
    chosen = [[names[n] for n in choose_major(names, persons, f"v{video}")] for video in range(40)]
    again = [[names[::-1][n] for n in choose_major(names[::-1], persons[::-1], f"v{video}")] for video in range(40)]
    assert chosen == again
    assert {order[0] for order in chosen} == {"ann", "bob"}
    assert {order[-1] for order in chosen} == {"cat"}


@pytest.mark.parametrize(
    ("frames", "found"),
    [([], []), ([5], [(0, 1)]), ([1, 2, 3], [(0, 3)]), ([1, 2, 4, 9, 10], [(0, 2), (2, 3), (3, 5)])],
)
def test_runs_are_the_stretches_without_a_gap(frames, found):
    assert [(one.start, one.stop) for one in runs(np.array(frames, int))] == found
