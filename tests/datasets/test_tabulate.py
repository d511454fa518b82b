import io

import numpy as np

from reactionnet_datasets.sample import Chunk, Label
from reactionnet_datasets.shards import Record, write_shard
from reactionnet_datasets.tables import read_table
from reactionnet_datasets.tabulate import read_chunks, tabulate


def record(first, num, **changed):
    key = f"v-0-{first:06d}"
    chunk = Chunk(
        key=key, dataset="d", video_id="v", clip_id="v-0-000000", subject_id="ann", track="0", fps=25.0,
        frames=list(range(first, first + num)), t_s=[0.04 * n for n in range(first, first + num)],
        clip_first_frame=0, clip_num_frames=3, splits={"all": "train"}, **changed,
    )  # fmt: skip
    pose = io.BytesIO()
    np.save(pose, np.full((num, 3), first, np.float32) + np.float32([0.5, -1, 2]))
    pictures = [(f"{n:03d}.reaction.png", b"png") for n in range(num)]
    return Record(key=key, members=(("json", chunk.to_json()), ("pose.npy", pose.getvalue()), *pictures))


def tables(root, records, labels=("scene", "au_occ_12")):
    info = write_shard(root, "train-00000", records)
    parts = tabulate(root, info, labels)
    return info, parts, *(read_table(root, name, [getattr(parts, name)]).to_pylist() for name in ("frames", "windows"))


def test_a_shard_becomes_one_row_a_frame_and_one_a_chunk(tmp_path):
    au = Label(space="au_occ", value=[1, None], mask=["valid", "uncodable"])
    boxes = {"face_boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "face_sources": ["detected", "tracked"]}
    scene = Label(space="scene", value="game")
    info, parts, frames, windows = tables(
        tmp_path, [record(0, 2, labels={"scene": scene, "au_occ_12": au}, **boxes), record(2, 1, folds={"f3": 2})]
    )
    assert (parts.num_frames, parts.num_clips) == (3, 1)
    assert [row["frame"] for row in frames] == [0, 1, 2]
    assert [row["member"] for row in frames] == [
        "v-0-000000.000.reaction.png", "v-0-000000.001.reaction.png", "v-0-000002.000.reaction.png",
    ]  # fmt: skip
    assert [(row["face_x"], row["face_h"], row["face_source"]) for row in frames] == [
        (1, 4, "detected"), (5, 8, "tracked"), (None, None, None),
    ]  # fmt: skip
    assert [(row["yaw"], row["pitch"], row["roll"]) for row in frames[1:]] == [(0.5, -1, 2), (2.5, 1, 4)]
    assert [(row["au_occ_12"], row["au_occ_12_mask"]) for row in frames] == [
        (1, "valid"),
        (None, "uncodable"),
        (None, "not_annotated"),
    ]
    assert [row["scene"] for row in frames] == ["game", "game", None]
    assert frames[2]["folds"] == [("f3", 2)]
    assert {row["split_all"] for row in frames} == {"train"}
    assert {row["shard"] for row in frames + windows} == {info.path}
    assert [(row["first_frame"], row["num_frames"], row["clip_num_frames"]) for row in windows] == [
        (0, 2, 3),
        (2, 1, 3),
    ]
    assert not any(row["has_audio"] or row["has_stimulus"] for row in windows)


def test_the_bytes_of_the_windows_are_those_of_the_tar(tmp_path):
    info, _, _, windows = tables(tmp_path, [record(0, 2), record(2, 1)], labels=())
    assert sum(row["num_bytes"] for row in windows) + 1024 == info.num_bytes == (tmp_path / info.path).stat().st_size


def test_small_arrays_are_read_and_pictures_are_not(tmp_path):
    info = write_shard(tmp_path, "s", [record(0, 2)])
    ((chunk, places, arrays),) = read_chunks(tmp_path, info)
    assert chunk.frames == [0, 1]
    assert set(arrays) == {"json", "pose.npy"}
    assert set(places) - set(arrays) == {"000.reaction.png", "001.reaction.png"}
