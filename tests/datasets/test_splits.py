import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactionnet_datasets.splits import Member, assign, hash_of, read_lock, write_lock

RATIO = (0.8, 0.1, 0.1)


def members(num_videos: int, num_subjects: int, seed: int = 0) -> list[Member]:
    draw = random.Random(seed)
    return [
        Member(video_id=f"v{i}", ties=tuple({f"subject:{draw.randrange(num_subjects)}" for _ in range(2)}))
        for i in range(num_videos)
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 80))
def test_a_subject_is_never_in_two_splits_whatever_the_order(seed, num_videos, num_subjects):
    group = members(num_videos, num_subjects, seed)
    result = assign(group, RATIO, {})
    splits_of = {}
    for member in group:
        for tie in member.ties:
            splits_of.setdefault(tie, set()).add(result.split_of[member.video_id])
    assert all(len(splits) == 1 for splits in splits_of.values())
    random.Random(seed).shuffle(group)
    assert assign(group, RATIO, {}) == result


def test_a_small_data_set_has_all_three_splits():
    result = assign([Member(video_id=f"v{i}") for i in range(10)], RATIO, {})
    assert sorted(result.split_of.values()) == ["test"] + ["train"] * 8 + ["val"]


def test_a_large_data_set_is_cut_near_the_ratio_and_growth_moves_nothing():
    many = [Member(video_id=f"v{i}") for i in range(2000)]
    before = assign(many[:1500], RATIO, {})
    after = assign(many, RATIO, before.lock)
    assert 0.77 < list(after.split_of.values()).count("train") / 2000 < 0.83
    assert {video: after.split_of[video] for video in before.split_of} == dict(before.split_of)


def test_nothing_locked_moves_when_a_small_data_set_grows():
    few = [Member(video_id=f"v{i}") for i in range(12)]
    before = assign(few[:6], RATIO, {})
    after = assign(few, RATIO, before.lock)
    assert {video: after.split_of[video] for video in before.split_of} == dict(before.split_of)


def test_a_source_that_would_join_two_splits_is_refused():
    before = assign([Member(video_id=f"v{i}", ties=(f"subject:{i}",)) for i in range(10)], RATIO, {})
    train = next(v for v, s in before.split_of.items() if s == "train")
    test = next(v for v, s in before.split_of.items() if s == "test")
    bridge = Member(video_id="bridge", ties=(f"subject:{train[1:]}", f"subject:{test[1:]}"))
    after = assign([Member(video_id="v0", ties=("subject:0",)), bridge], RATIO, before.lock)
    assert "bridge" not in after.split_of
    assert "test and train" in after.conflicts["bridge"]


def test_the_lock_survives_its_file_and_holds_no_names():
    lock = dict(assign([Member(video_id="ann_at_home")], RATIO, {}).lock)
    data = write_lock(lock)
    assert read_lock(data) == lock == {hash_of("video:ann_at_home"): "train"}
    assert b"ann" not in data
    with pytest.raises(ValueError, match="damaged"):
        read_lock(data[:20])
