"""Which frames make an item, whatever the lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactionnet_datasets.windows import Windows, epoch_order, mixed_order, share_of

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=8)


def spans(windows):
    return list(zip(*(column.tolist() for column in windows.spans(np.arange(len(windows)))), strict=True))


@given(lengths=LENGTHS, window=st.integers(1, 130))
def test_windows_side_by_side_cover_every_frame_once(lengths, window):
    found = [
        (clip, frame) for clip, start, end in spans(Windows(clip_frames=np.array(lengths), window=window))
        for frame in range(start, end)
    ]  # fmt: skip
    assert found == [(clip, frame) for clip, length in enumerate(lengths) for frame in range(length)]


@given(lengths=LENGTHS, window=st.integers(1, 130), stride=st.integers(1, 130))
def test_overlapping_windows_cover_every_frame_and_no_window_is_idle(lengths, window, stride):
    windows = Windows(clip_frames=np.array(lengths), window=window, stride=stride)
    for clip, length in enumerate(lengths):
        mine = [(start, end) for c, start, end in spans(windows) if c == clip]
        assert [start for start, _ in mine] == list(range(0, stride * len(mine), stride))
        assert all(end == min(start + window, length) > start for start, end in mine)
        if stride <= window:
            assert mine[-1][1] == length
        assert all(end < length for _, end in mine[:-1])


@given(lengths=LENGTHS, window=st.integers(1, 130), stride=st.integers(1, 130))
def test_without_tails_all_windows_are_full(lengths, window, stride):
    found = spans(Windows(clip_frames=np.array(lengths), window=window, stride=stride, tail="drop"))
    assert found == [
        (clip, start, start + window)
        for clip, length in enumerate(lengths) for start in range(0, length - window + 1, stride)
    ]  # fmt: skip


@given(length=st.integers(1, 400), num=st.integers(1, 64), seed=st.none() | st.integers(0, 99))
def test_spread_frames_ascend_within_the_clip_one_a_part(length, num, seed):
    windows = Windows(clip_frames=np.array([length]), num_frames=num)
    frames = windows.frames(0, length, None if seed is None else np.random.default_rng(seed))
    assert len(frames) == min(num, length) == windows.lengths(np.array([0]), np.array([length]))[0]
    assert (np.diff(frames) >= (1 if seed is None else 0)).all()
    assert frames[0] >= 0 and frames[-1] < length
    if length > num:
        parts = np.arange(num) * length / num
        assert (frames >= np.floor(parts)).all() and (frames < parts + length / num).all()


@given(
    num=st.integers(1, 200), num_ranks=st.integers(1, 9), uneven=st.sampled_from(["keep", "drop", "pad"]),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_ranks_together_have_every_item_once(num, num_ranks, uneven, seed):
    order = epoch_order(np.arange(num), shuffle=True, seed=seed, epoch=1)
    if num < num_ranks and uneven != "pad":
        with pytest.raises(ValueError, match="without any"):
            [share_of(order, rank=rank, num_ranks=num_ranks, uneven=uneven) for rank in range(num_ranks)]
        return
    shares = [share_of(order, rank=rank, num_ranks=num_ranks, uneven=uneven) for rank in range(num_ranks)]
    once = np.concatenate([share.items[: len(share.items) - share.repeated] for share in shares])
    assert len(once) == len(set(once)) == (num - num % num_ranks if uneven == "drop" else num)
    sizes = {len(share.items) for share in shares}
    assert len(sizes) == 1 or (uneven == "keep" and max(sizes) - min(sizes) == 1)


@given(shards=st.lists(st.integers(0, 9), min_size=1, max_size=60), size=st.integers(1, 4), epoch=st.integers(0, 3))
def test_shuffling_by_groups_keeps_every_item_and_few_shards_at_a_time(shards, size, epoch):
    groups = np.array(sorted(shards))
    order = epoch_order(np.arange(len(groups)), groups=groups, group_size=size, shuffle=True, seed=1, epoch=epoch)
    assert sorted(order) == list(range(len(groups)))
    seen = groups[order].tolist()
    last = {shard: place for place, shard in enumerate(seen)}
    first = {shard: seen.index(shard) for shard in seen}
    for place in range(len(seen)):
        assert sum(first[shard] <= place <= last[shard] for shard in last) <= size


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch):
        return epoch_order(np.arange(50), shuffle=True, seed=seed, epoch=epoch).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert epoch_order(np.arange(5), shuffle=False, seed=1, epoch=1).tolist() == [0, 1, 2, 3, 4]


@given(num=st.integers(1, 300), weights=st.lists(st.floats(0.1, 5), min_size=2, max_size=4), epoch=st.integers(0, 3))
def test_mixed_lists_have_their_share_and_go_round_before_they_repeat(num, weights, epoch):
    sizes = [5, 40, 7, 11][: len(weights)]
    order = mixed_order(sizes, weights, num, seed=3, epoch=epoch)
    assert len(order) == num
    for first, size, weight in zip(np.cumsum([0, *sizes[:-1]]), sizes, weights, strict=True):
        mine = order[(order >= first) & (order < first + size)]
        assert abs(len(mine) - num * weight / sum(weights)) <= 1
        counts = np.bincount(mine - first, minlength=size)
        assert counts.max() - counts.min() <= 1
