"""Streaming: which frames come, exactly once, and in which order."""

import collections
import itertools
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from drawn_shards import FPS, told, write_dataset
from reactionnet_datasets import Augment, ShardDataset, Source
from reactionnet_datasets.sample import Label
from reactionnet_datasets.sound_features import mfcc
from reactionnet_datasets.stream import _items_a_task, _units_ahead

LENGTHS = (127, 128, 129, 257, 5, 60)


def labels(clip, frames):
    """Every third frame has a valence; action unit 12 counts the frame modulo 6; the scene is the clip's."""
    valence = [frame / 1000 if frame % 3 == 0 else None for frame in frames]
    return {
        "valence": Label(
            space="va", value=valence, mask=["not_annotated" if v is None else "valid" for v in valence]
        ),
        "au_int_12": Label(space="au_int", value=[f % 6 for f in frames], mask=["valid"] * len(frames)),
        "scene": Label(space="scene8", value="game" if clip % 2 else "film"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(
        tmp_path_factory.mktemp("drawn"), LENGTHS, labels=labels, label_names=("valence", "au_int_12", "scene"),
        stimulus=True, sound=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Many short clips in three shards, pictures of 8 px: for counting."""
    return write_dataset(
        tmp_path_factory.mktemp("tiny"), [1 + clip * 7 % 5 for clip in range(22)], num_shards=3, side=8
    )


@pytest.fixture(scope="module")
def by_shards(tiny, tmp_path_factory):
    """The same clips as `tiny` in one, three and eight shards."""
    lengths = [1 + clip * 7 % 5 for clip in range(22)]
    made = {num: write_dataset(tmp_path_factory.mktemp(f"in{num}"), lengths, num_shards=num, side=8) for num in (1, 8)}
    return {**made, 3: tiny}


def seen(items):
    """(clip, frame) of every unmasked picture."""
    pairs = []
    for item in items:
        frames, mask = item["frames"], item["frame_mask"]
        pairs += [told(picture) for picture in frames[mask]]
    return pairs


ALL = {(clip, frame) for clip, length in enumerate(LENGTHS) for frame in range(length)}


@pytest.mark.parametrize(
    "reading",
    [
        {"window": 48},
        {"window": 48, "stride": 48, "batch_size": 3},
        {"window": 100, "batch_size": 2, "shuffle": True},
        {"window": 1, "batch_size": 64},
        {},
        {"batch_size": 2},
    ],
)
def test_every_frame_comes_exactly_once(root, reading):
    pairs = seen(ShardDataset(root, **reading))
    assert len(pairs) == len(ALL)
    assert set(pairs) == ALL


@pytest.mark.parametrize("length", [127, 128, 129, 257])
def test_windows_cross_the_borders_of_chunks(root, length):
    clip = LENGTHS.index(length)
    items = [item for item in ShardDataset(root, window=48, stride=24) if told(item["frames"][0])[0] == clip]
    starts = [int(item["frame"][0]) for item in items]
    assert starts == list(range(0, max(length - 48, 0) + 24, 24))[: len(starts)]
    assert starts[-1] + 48 >= length > starts[-2] + 48
    for item in items:
        valid = item["frame_mask"]
        frames = [told(picture)[1] for picture in item["frames"][valid]]
        assert frames == item["frame"][valid].tolist() == list(range(frames[0], frames[0] + len(frames)))
        assert item["frames"].shape == (48, 3, 32, 32)
        assert not item["frames"][~valid].any()
        assert item["frame"][~valid].tolist() == [-1] * int((~valid).sum())
        torch.testing.assert_close(item["t_s"][valid], torch.tensor(frames, dtype=torch.float64) / FPS)


def test_short_windows_are_left_out_on_request(root):
    items = list(ShardDataset(root, window=100, tail="drop"))
    assert all(item["frame_mask"].all() for item in items)
    assert len(items) == sum(length // 100 for length in LENGTHS)


def test_frames_spread_over_a_clip_lie_in_the_middle_of_equal_parts(root):
    items = {told(item["frames"][0])[0]: item for item in ShardDataset(root, num_frames=32)}
    assert items[1]["frame"].tolist() == [4 * n + 2 for n in range(32)]
    assert items[3]["frame"].tolist() == [int((n + 0.5) * 257 / 32) for n in range(32)]
    assert [told(p)[1] for p in items[3]["frames"]] == items[3]["frame"].tolist()
    assert items[4]["frame_mask"].sum() == 5  # a clip of five gives its five


def test_frames_drawn_at_random_stay_in_their_parts_and_depend_on_the_epoch(root):
    dataset = ShardDataset(root, num_frames=32, jitter=True, seed=3)
    once, again = ([item["frame"] for item in dataset] for _ in range(2))
    assert any((a != b).any() for a, b in zip(once, again, strict=True))
    dataset.set_epoch(0)
    assert all((a == b).all() for a, b in zip(once, dataset_frames(dataset), strict=True))
    clips = [clip for clip, length in enumerate(LENGTHS) if length >= 32]
    spread = [frames for frames in once if (frames >= 0).all()]
    assert len(spread) == len(clips)
    for frames in spread:
        length = next(n for n in sorted(LENGTHS) if n > frames.max() and n / 32 * 31 <= frames.max() + 1)
        firsts = torch.arange(32) * length / 32
        assert (frames >= firsts.floor()).all() and (frames < firsts + length / 32).all()


def dataset_frames(dataset):
    return [item["frame"] for item in dataset]


def test_the_stimulus_is_that_of_so_many_seconds_before(root):
    delay = 3 / FPS
    for item in ShardDataset(root, window=48, stride=48, fields=("frames", "stimulus"), delay_s=delay):
        frames = item["frame"]
        for place in range(48):
            expected = int(frames[place]) - 3
            assert bool(item["stimulus_mask"][place]) == (expected >= 0 and bool(item["frame_mask"][place]))
            if expected >= 0 and item["frame_mask"][place]:
                assert told(item["stimulus"][place]) == (told(item["frames"][place])[0], expected)
            else:
                assert not item["stimulus"][place].any()


def test_sound_is_what_was_heard_during_the_window(root):
    for item in ShardDataset(root, window=100, fields=("audio",)):
        valid = item["frame_mask"]
        start_ms = int(item["frame"][0]) * 40
        sound = item["audio"]
        assert len(sound) == int(item["audio_length"]) == 640 * int(valid.sum())
        milliseconds = (sound * 32768).round().long()
        assert milliseconds.tolist() == [start_ms + n // 16 for n in range(len(sound))]


def test_sound_features_are_those_of_the_windows_sound_alone_or_in_a_batch(root):
    fields = ("audio", "mfcc", "logmel")
    (batch, *_), items = (list(ShardDataset(root, window=40, fields=fields, batch_size=size)) for size in (3, None))
    for place in range(3):
        item, valid = items[place], int(items[place]["audio_length"])
        torch.testing.assert_close(item["mfcc"], mfcc(item["audio"][None])[0])
        torch.testing.assert_close(batch["mfcc"][place, : 1 + valid // 512], item["mfcc"])
        torch.testing.assert_close(batch["logmel"][place, : 1 + (valid - 400) // 160], item["logmel"])
    assert set(next(iter(ShardDataset(root, window=40, fields=("mfcc",))))) & {"audio", "mfcc"} == {"mfcc"}


def test_labels_come_with_masks_and_rules(root):
    rules = {"valence": None, "au_occ_12": "intensity>=2", "scene": "classes:scene8"}
    dataset = ShardDataset(root, window=1, labels=rules, fields=("labels",), batch_size=50)
    assert dataset.classes("scene")[2] == "game"
    for batch in dataset:
        frames, found = batch["frame"], batch["labels"]
        assert (found["valence_mask"] == (frames % 3 == 0)).all()
        torch.testing.assert_close(found["valence"][found["valence_mask"]], (frames[frames % 3 == 0] / 1000).float())
        assert found["valence"][~found["valence_mask"]].isnan().all()
        assert (found["au_occ_12"] == (frames % 6 >= 2)).all()
        assert found["scene"].shape == (len(frames),)  # of the clip, not of a frame
        assert "frames" not in batch
    assert {int(label) for batch in dataset for label in batch["labels"]["scene"]} == {1, 2}


@pytest.mark.parametrize("augment", [None, Augment(resize=24, crop=16), Augment(crop=24, flip=0.5, brightness=0.3)])
def test_single_frames_have_a_short_cut_that_changes_nothing(root, augment):
    def batches(*more):
        return ShardDataset(
            root, window=1, shuffle=True, seed=1, batch_size=50, fields=("frames", "labels", *more), augment=augment,
            labels={"valence": None, "au_occ_12": "intensity>=2", "scene": "classes:scene8"},
        )  # fmt: skip

    for short, long in zip(batches(), batches("meta"), strict=True):
        assert set(short) == set(long) - {"meta"}
        assert short["key"] == long["key"]
        for name in ("frames", "frame_mask", "frame", "t_s"):
            assert torch.equal(short[name], long[name])
        for name, values in short["labels"].items():
            torch.testing.assert_close(values, long["labels"][name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("threads", "batch_size", "length", "share", "ahead"),
    [
        (0, 64, 1, None, 1),
        (1, 64, 1, 64, 3),
        (2, 64, 1, 32, 3),
        (16, 64, 1, 8, 5),
        (2, 4, 48, 2, 3),
        (2, None, 1, None, 5),
    ],
)
def test_every_thread_has_work_while_one_batch_is_waited_for(threads, batch_size, length, share, ahead):
    assert _units_ahead(threads, batch_size, length) == ahead
    if share is not None:
        assert _items_a_task(batch_size, length, threads) == share
        tasks = (ahead - 1) * -(-batch_size // share)
        assert tasks >= threads


def test_windows_without_a_label_are_left_out_on_request(root):
    frames = [int(item["frame"][0]) for item in ShardDataset(root, window=1, labels=("valence",), labelled=True)]
    assert len(frames) == sum(-(-length // 3) for length in LENGTHS)
    assert all(frame % 3 == 0 for frame in frames)


def test_all_fields_have_their_shapes(root):
    fields = ("frames", "landmarks", "landmarks49", "pose", "gaze", "boxes", "caption", "meta")
    batch = next(iter(ShardDataset(root, window=8, batch_size=2, fields=fields)))
    assert batch["landmarks"].shape == (2, 8, 68, 2)
    assert batch["landmarks49"].shape == (2, 8, 49, 2)
    assert batch["pose"][0, 0].tolist() == [10, 20, 30]
    assert batch["boxes"][0, 0].tolist() == [4, 6, 8, 10]
    assert batch["gaze"].shape == (2, 8, 2) and batch["gaze"].isnan().all()  # nobody measured it
    assert batch["caption"] == ["", ""]
    assert batch["meta"][0]["video_id"] == f"video{told(batch['frames'][0, 0])[0]:03d}"
    assert batch["key"][0].endswith("-000000")


def test_a_box_is_shown_in_place_of_the_picture_and_points_follow(root):
    shown = Augment(box=True, crop=16, random=False)
    for window in (1, 8):
        batch = next(
            iter(ShardDataset(root, window=window, batch_size=2, augment=shown, fields=("frames", "landmarks")))
        )
        assert batch["frames"].shape == (2, window, 3, 16, 16)
        # the box is x 4, y 6, 8 wide, 10 high; point 20 lies at 5, 2.5
        expected = [(5 + 0.5 - 4) * 16 / 8 - 0.5, (2.5 + 0.5 - 6) * 16 / 10 - 0.5]
        assert batch["landmarks"][0, 0, 20].tolist() == pytest.approx(expected)
    assert next(iter(ShardDataset(root, window=1, augment=shown)))["frames"].shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="boxes are of the reaction"):
        ShardDataset(root, window=1, augment_stimulus=shown)


# Order, workers, ranks


def keys(batches):
    return [batch["key"] for batch in batches]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def test_the_same_batches_for_a_seed_whatever_the_number_of_workers(tiny):
    def dataset(**changed):
        return ShardDataset(tiny, window=1, shuffle=True, seed=5, batch_size=4, **changed)

    plain = keys(dataset())
    assert plain == keys(dataset(threads=0)) == keys(dataset(threads=3, prefetch=5))
    for workers in (1, 2, 3):
        assert keys(DataLoader(dataset(), batch_size=None, num_workers=workers)) == plain
    assert keys(ShardDataset(tiny, window=1, shuffle=True, seed=6, batch_size=4)) != plain
    assert sorted(flat(plain)) == sorted(flat(keys(ShardDataset(tiny, window=1, batch_size=7))))


def test_pictures_from_workers_are_the_same(tiny):
    dataset = ShardDataset(tiny, window=1, batch_size=8)
    here = [batch["frames"] for batch in dataset]
    there = [batch["frames"].clone() for batch in DataLoader(dataset, batch_size=None, num_workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_a_loader_that_batches_itself_gets_every_sample_once(tiny):
    dataset = ShardDataset(tiny, window=1, shuffle=True)
    found = flat(keys(DataLoader(dataset, batch_size=5, num_workers=2)))
    assert sorted(found) == sorted(item["key"] for item in dataset)
    assert len(set(found)) == len(found)


def test_every_epoch_has_an_order_of_its_own_also_in_workers(tiny):
    dataset = ShardDataset(tiny, window=1, shuffle=True, batch_size=4)
    first, second = keys(dataset), keys(dataset)
    assert first != second
    for persistent in (False, True):
        dataset.set_epoch(0)
        loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=persistent)
        assert [keys(loader), keys(loader)] == [first, second]
        dataset.set_epoch(0)
        assert keys(loader) == first


@pytest.mark.parametrize(("uneven", "counts"), [("keep", {21, 22}), ("drop", {21}), ("pad", {22})])
def test_ranks_share_the_items(tiny, uneven, counts):
    everything = [item["key"] for item in ShardDataset(tiny, window=1)]
    assert len(everything) == 64
    ranks = [
        list(ShardDataset(tiny, window=1, shuffle=True, seed=1, rank=rank, num_ranks=3, uneven=uneven))
        for rank in range(3)
    ]
    assert {len(items) for items in ranks} == counts
    told_twice = [item["key"] for items in ranks for item in items if item.get("repeated", False)]
    once = collections.Counter(item["key"] for items in ranks for item in items if not item.get("repeated", False))
    assert set(once.values()) == {1}
    assert set(told_twice) <= set(once)
    if uneven != "drop":
        assert sorted(once) == sorted(everything)
    assert len(told_twice) == (2 if uneven == "pad" else 0)


def test_shards_are_finished_before_others_begin_where_that_is_asked(tiny):
    dataset = ShardDataset(tiny, window=1, shuffle=True, shuffle_shards=1, fields=("meta",))
    shards = [item["meta"]["shard"] for item in dataset]
    assert len([shard for shard, _ in itertools.groupby(shards)]) == len(set(shards)) == 3
    assert sorted(keys(dataset)) == sorted(keys(ShardDataset(tiny, window=1)))


@settings(max_examples=25, deadline=None)
@given(
    window=st.sampled_from([None, 1, 2, 3]),
    batch_size=st.sampled_from([None, 1, 4]),
    num_ranks=st.integers(1, 4),
    stops=st.lists(st.integers(0, 30), max_size=2),
    shuffle=st.booleans(),
    shuffle_shards=st.sampled_from([None, 2]),
    num_shards=st.sampled_from([1, 3, 8]),
)
def test_stopped_and_resumed_ranks_see_every_frame_once(
    by_shards, window, batch_size, num_ranks, stops, shuffle, shuffle_shards, num_shards
):
    pairs = []
    for rank in range(num_ranks):

        def dataset(rank=rank):
            return ShardDataset(
                by_shards[num_shards], window=window, batch_size=batch_size, rank=rank, num_ranks=num_ranks, shuffle=shuffle,
                seed=9, shuffle_shards=shuffle_shards, fields=("frames",), threads=0,
            )  # fmt: skip

        undisturbed = list(dataset())
        found, state = [], dataset().state_dict()
        for stop in [*stops, None]:
            again = dataset()
            again.load_state_dict(state)
            found += itertools.islice(again, stop)
            state = again.state_dict()
            if state["epoch"] == 1:
                break
        assert keys(found) == keys(undisturbed)
        pairs += seen(found)
    assert len(pairs) == len(set(pairs)) == sum(1 + clip * 7 % 5 for clip in range(22))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    num_shards=st.sampled_from([1, 3, 8]),
    num_ranks=st.integers(1, 3),
    workers=st.integers(0, 3),
    batch_size=st.sampled_from([None, 1, 4]),
    window=st.sampled_from([1, 3]),
    stops=st.lists(st.integers(0, 12), min_size=1, max_size=2),
    uneven=st.sampled_from(["keep", "drop", "pad"]),
    seed=st.integers(0, 3),
)
def test_workers_that_are_stopped_and_resumed_see_what_an_undisturbed_rank_does(
    by_shards, num_shards, num_ranks, workers, batch_size, window, stops, uneven, seed
):
    """Workers x ranks x shards x resume points. With batching inside, batches are those of one process, in order."""
    pairs = []
    for rank in range(num_ranks):

        def loader(rank=rank, workers=workers):
            dataset = ShardDataset(
                by_shards[num_shards], window=window, batch_size=batch_size, rank=rank, num_ranks=num_ranks, shuffle=True,
                seed=seed, uneven=uneven, threads=0,
            )  # fmt: skip
            return StatefulDataLoader(dataset, batch_size=None if batch_size else 4, num_workers=workers)

        undisturbed, found, state = list(loader()), [], None
        for stop in [*stops, None]:
            again = loader()
            if state is not None:
                again.load_state_dict(state)
            rows = iter(again)
            head = [*itertools.islice(rows, stop)]
            found += [
                {name: value.clone() for name, value in row.items() if torch.is_tensor(value)} | {"key": row["key"]}
                for row in head
            ]
            state = again.state_dict()
            if stop is None or len(head) < stop or len(found) >= len(undisturbed):
                break
        assert keys(found) == keys(undisturbed)
        if batch_size:
            assert keys(found) == keys(loader(workers=0))
        for batch in found:
            once = ~batch["repeated"] if "repeated" in batch else torch.ones(len(batch["key"]), dtype=torch.bool)
            frames, mask = batch["frames"][once], batch["frame_mask"][once]
            pairs += [told(picture) for picture in frames[mask]]
    everything = sum(1 + clip * 7 % 5 for clip in range(22))
    assert len(pairs) == len(set(pairs))
    items = len(ShardDataset(by_shards[num_shards], window=window))
    assert len(pairs) == everything if uneven != "drop" or items % num_ranks == 0 else len(pairs) < everything


# State


def test_a_state_goes_on_with_the_next_batch_in_any_number_of_workers(tiny):
    def dataset():
        return ShardDataset(tiny, window=1, shuffle=True, seed=2, batch_size=4)

    first, second = keys(it := dataset()), keys(it)
    stopped = dataset()
    head = keys(itertools.islice(stopped, 5))
    state = pickle.loads(pickle.dumps(stopped.state_dict()))
    assert head == first[:5]
    for workers in (0, 1, 3):
        again = dataset()
        again.load_state_dict(state)
        loader = DataLoader(again, batch_size=None, num_workers=workers)
        assert keys(loader) == first[5:]
        assert keys(loader) == second


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [4, None])
def test_stateful_dataloader_resumes_in_the_middle_and_after_the_end(tiny, workers, batch_size):
    def loader():
        dataset = ShardDataset(tiny, window=1, shuffle=True, seed=2, batch_size=batch_size)
        return StatefulDataLoader(dataset, batch_size=None if batch_size else 4, num_workers=workers)

    undisturbed = loader()
    first, second = keys(undisturbed), keys(undisturbed)
    stopped = loader()
    it = iter(stopped)
    head = keys(itertools.islice(it, 7))
    state = stopped.state_dict()
    del it
    again = loader()
    again.load_state_dict(state)
    assert head + keys(again) == first
    assert keys(again) == second
    ended = loader()
    assert keys(ended) == first
    state = ended.state_dict()
    again = loader()
    again.load_state_dict(state)
    assert keys(again) == second


def test_a_state_of_something_else_is_refused(tiny, root):
    state = ShardDataset(tiny, window=1, batch_size=4).state_dict()
    with pytest.raises(ValueError, match=r"batch_size.*4.*5"):
        ShardDataset(tiny, window=1, batch_size=5).load_state_dict(state)
    with pytest.raises(ValueError, match="content"):
        ShardDataset(root, window=1, batch_size=4).load_state_dict(state)
    with pytest.raises(ValueError, match="schema 'mine'"):
        ShardDataset(tiny).load_state_dict({"schema": "mine"})
    with pytest.raises(ValueError, match="one of 2 workers"):
        ShardDataset(tiny, window=1, batch_size=4).load_state_dict({**state, "workers": 2})


KILLED = """
import json, os, signal, sys, torch
from reactionnet_datasets import ShardDataset
root, state_file, die_after = sys.argv[1], sys.argv[2], int(sys.argv[3])
dataset = ShardDataset(root, window=1, shuffle=True, seed=4, batch_size=3)
if os.path.exists(state_file):
    dataset.load_state_dict(json.load(open(state_file)))
for number, batch in enumerate(dataset):
    print(json.dumps([batch["key"], int(batch["frames"].sum())]), flush=True)
    json.dump(dataset.state_dict(), open(state_file + ".tmp", "w"))
    os.replace(state_file + ".tmp", state_file)
    if number + 1 == die_after:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_and_resumed_epoch_equals_an_undisturbed_one(tiny, tmp_path):
    def run(state, die_after):
        command = [sys.executable, "-c", KILLED, str(tiny), str(tmp_path / state), str(die_after)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == (0 if die_after == 0 else -9), done.stderr
        return done.stdout.splitlines()

    undisturbed = run("whole", 0)
    assert run("cut", 6) + run("cut", 0) == undisturbed
    assert len(undisturbed) == 22


# Mixing


def test_data_sets_are_mixed_by_weight(tiny, root):
    def dataset(**changed):
        return ShardDataset(
            [root, Source(root=tiny, split="train")], window=1, weights=[0.25, 0.75], epoch_items=200, shuffle=True,
            batch_size=10, fields=("meta",), **changed,
        )  # fmt: skip

    batches = list(dataset())
    origin = collections.Counter(
        "tiny" if shard in shards_of(tiny) else "root" for b in batches for shard in shard_names(b)
    )
    assert origin == {"root": 50, "tiny": 150}
    tiny_keys = collections.Counter(
        k for b in batches for k, s in zip(b["key"], shard_names(b), strict=True) if s in shards_of(tiny)
    )
    assert set(tiny_keys.values()) == {2, 3}  # 64 items, drawn 150 times: a list starts again when it is through
    again = dataset()
    head = keys(itertools.islice(again, 3))
    resumed = dataset()
    resumed.load_state_dict(again.state_dict())
    assert head + keys(resumed) == keys(batches)


def shard_names(batch):
    return [meta["shard"] for meta in batch["meta"]]


def shards_of(root):
    return {f"shards/{path.name}" for path in (root / "shards").glob("*.tar")}


def test_data_sets_without_weights_follow_one_another(tiny, root):
    assert len(list(ShardDataset([tiny, root], window=1, fields=()))) == 64 + sum(LENGTHS)


# Arguments


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"split": "practice"}, "no split 'practice'; it has train"),
        ({"window": 0}, "window is 0"),
        ({"stride": 4}, "stride 4 without a window"),
        ({"window": 4, "num_frames": 5}, "5 frames cannot be spread over a window of 4"),
        ({"tail": "cut"}, "tail is 'cut'"),
        ({"window": 300, "tail": "drop"}, "no window is left"),
        ({"labels": ("happiness",)}, "no label column is called 'happiness'"),
        ({"labels": ("valence",), "labelled": True}, "no column 'valence_mask'"),
        ({"labelled": True}, "but no labels"),
        ({"fields": ("frames", "frames")}, "name one twice"),
        ({"fields": ("frames",), "labels": ("valence",)}, "add 'labels' to fields"),
        ({"delay_s": -1.0}, "delay_s is -1.0"),
        ({"jitter": True}, "name num_frames"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 1}, "belong together"),
        ({"rank": 3, "num_ranks": 3}, "rank 3 of 3"),
        ({"rank": 70, "num_ranks": 100}, "without any"),
        ({"uneven": "most"}, "uneven is 'most'"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"weights": [1.0]}, "need shuffle=True"),
        ({"weights": [1.0, 2.0], "shuffle": True}, "expected one each"),
        ({"task": "au"}, "needs a split"),
        ({"split": "train", "task": "au"}, "no column 'split_au'"),
        ({"split": "test", "protocol": "bp4d-3fold"}, "belong together"),
        ({"split": "test", "protocol": "bp4d-3fold", "fold": 1}, "no subject that bp4d-3fold knows"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_reason(tiny, wrong, reason):
    with pytest.raises(ValueError, match=reason):
        ShardDataset(tiny, **wrong)


def test_a_folder_that_is_no_data_set_is_named(tmp_path):
    with pytest.raises(ValueError, match="is no data set"):
        ShardDataset(tmp_path)


def test_a_field_that_no_record_has_is_named(tiny):
    with pytest.raises(ValueError, match=r"has no vggface\.npy; leave 'vggface' out of fields"):
        next(iter(ShardDataset(tiny, fields=("vggface",))))


# Augmentation


def test_one_view_serves_all_frames_of_an_item_and_depends_on_seed_epoch_and_item(root):
    augment = Augment(crop=24, flip=0.5, brightness=0.4)
    dataset = ShardDataset(root, window=48, batch_size=2, augment=augment, fields=("frames", "landmarks"), seed=1)
    batches = list(dataset)
    points = torch.cat([batch["landmarks"][batch["frame_mask"].all(1)] for batch in batches])
    assert (points == points[:, :1]).all()  # drawn landmarks stand still, so one view leaves them still
    assert len({tuple(p[0].flatten().tolist()) for p in points}) > 3
    assert batches[0]["frames"].shape == (2, 48, 3, 24, 24)
    dataset.set_epoch(0)
    workers = DataLoader(dataset, batch_size=None, num_workers=2)
    assert all(torch.equal(a["frames"], b["frames"]) for a, b in zip(batches, workers, strict=True))


# Selections


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """As an importer writes it: six subjects of DISFA, splits by task, the parts of a protocol in the records or not."""
    subjects = ("SN002", "SN013", "SN003", "SN010", "SN018", "SN029")

    def of_clip(clip, folds=True):
        return {
            "subject_id": subjects[clip],
            "splits": {"au": "train" if clip < 4 else "val", "expression": "val"},
            "folds": {"disfa-3fold": 1 + clip % 3} if folds else {},
        }

    def write(name, folds):
        return write_dataset(
            tmp_path_factory.mktemp(name), [3] * 6, split_of=lambda clip: "all", tasks=("au", "expression"), side=8,
            of_clip=lambda clip: of_clip(clip, folds),
        )  # fmt: skip

    return write("with", True), write("without", False)


def clips_of(dataset):
    return sorted({clip for clip, _ in seen(dataset)})


@pytest.mark.parametrize(
    ("selection", "clips"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"split": "train", "task": "au"}, [0, 1, 2, 3]),
        ({"split": "val", "task": "au"}, [4, 5]),
        ({"split": "val", "task": "expression"}, [0, 1, 2, 3, 4, 5]),
        ({"split": "test", "protocol": "disfa-3fold", "fold": 1}, [2, 5]),
        ({"split": "train", "protocol": "disfa-3fold", "fold": 1}, [0, 1, 3, 4]),
        ({"split": "test", "protocol": "disfa-3fold", "fold": 3}, [0, 3]),
    ],
)
def test_tasks_and_folds_select_clips(released, selection, clips):
    with_parts, without = released
    assert clips_of(ShardDataset(with_parts, **selection)) == clips
    assert clips_of(ShardDataset(without, **selection)) == clips  # by the protocol's subject lists


def test_a_selection_that_leaves_nothing_is_refused(released):
    with pytest.raises(ValueError, match="nothing is left of this selection"):
        ShardDataset(released[0], split="test", task="au")
