import random
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that

from reactionnet_datasets.shards import Record, read_index, scan_tar
from reactionnet_pipeline.parts import Part, read_records, stage_part
from reactionnet_pipeline.sink import WriteToWebDataset, write_parts

NUM_CLIPS = 30


def records(clip_id, num=2, size=2000):
    picture = random.Random(clip_id).randbytes(size)
    return [
        Record(key=f"{clip_id}-{n:06d}", members=(("000.reaction.jpg", picture), ("npy", b"%d" % n)))
        for n in range(num)
    ]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    split_of = {n: "val" if n % 5 == 0 else "train" for n in range(NUM_CLIPS)}
    return [stage_part(folder, f"c{n}", f"c{n}", split, records(f"c{n}")) for n, split in split_of.items()]


def late(part: Part):
    return {record.key: [("json", b'{"clip":"%s"}' % part.clip_id.encode())] for record in records(part.clip_id)}


def write(root, parts, options=(), **settings):
    found = []
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(list(options))) as pipeline:
        refs = pipeline | beam.Create(parts) | WriteToWebDataset(root=str(root), **settings)
        assert_that(refs, Listed(root / "refs"))
    found = (root / "refs").read_text().splitlines()
    (root / "refs").unlink()
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*")}, found


class Listed:
    """Puts what a pipeline gave on file, one line each."""

    def __init__(self, path: Path):
        self._path = path

    def __call__(self, refs):
        self._path.write_text("\n".join(sorted(f"{ref.split} {ref.number} {ref.info.path}" for ref in refs)))


def test_the_same_parts_give_the_same_bytes_shuffled_or_tried_twice(tmp_path, parts):
    settings = {"target_bytes": 30_000, "late": late}
    first, refs = write(tmp_path / "a", parts, **settings)
    shuffled, _ = write(tmp_path / "b", random.Random(3).sample(parts, NUM_CLIPS), **settings)
    repeated, _ = write(tmp_path / "c", parts, ["--direct_runner_bundle_repeat=2"], **settings)
    doubled, _ = write(tmp_path / "d", parts, ["--direct_num_workers=2"], **settings)
    assert first == shuffled == repeated == doubled
    assert len(refs) == len([name for name in first if name.endswith(".tar")])


def test_every_clip_is_there_once_whole_and_in_its_split(tmp_path, parts):
    _, refs = write(tmp_path, parts, target_bytes=30_000, late=late)
    keys = []
    for split, _, path in (line.split() for line in refs):
        table = scan_tar(tmp_path / path)
        assert read_index((tmp_path / path).with_suffix(".idx")).equals(table)
        assert table["suffix"].to_pylist() == ["json", "000.reaction.jpg", "npy"] * (table.num_rows // 3)
        here = table["key"].to_pylist()[::3]
        keys += here
        assert {int(key[1:].split("-")[0]) % 5 == 0 for key in here} == {split == "val"}
        assert [int(key[-6:]) for key in here] == [0, 1] * (len(here) // 2)  # chunks of a clip stand together
    assert sorted(keys) == sorted(record.key for n in range(NUM_CLIPS) for record in records(f"c{n}"))


def test_shards_are_about_as_large_as_asked_for(tmp_path, parts):
    files, refs = write(tmp_path, parts, target_bytes=30_000)
    train = [files[line.split()[2]] for line in refs if line.startswith("train")]
    total = sum(part.num_bytes for part in parts if part.split == "train")
    assert len(train) == 8  # 24 clips of about 7 kB
    assert sum(map(len, train)) == total + 1024 * len(train)
    _, refs = write(tmp_path / "one", parts)
    assert [line.split()[:2] for line in refs] == [["train", "0"], ["val", "0"]]


def test_a_shard_that_is_done_is_not_written_again_until_its_parts_or_bytes_change(tmp_path, parts):
    def shard(parts, late=late):
        return write_parts((("train", 0), parts), tmp_path, late, tmp_path / "done").info

    info = shard(parts[:4])
    tar = tmp_path / info.path
    before = tar.stat().st_ino
    assert shard([*parts[3::-1], parts[0]]) == info  # shuffled, and one delivered twice
    assert tar.stat().st_ino == before
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    assert shard(parts[:4]) == info
    assert tar.read_bytes().endswith(b"\0")
    (tmp_path / info.index).unlink()
    assert shard(parts[:4]) == info
    assert (tmp_path / info.index).exists()
    assert shard(parts[:4], late=None) != info
    assert shard(parts[:3]) != info


def test_another_picture_of_the_same_size_is_another_shard(tmp_path):
    def shard(text):
        part = stage_part(tmp_path, "c", "c", "train", [Record(key="c", members=(("txt", text),))])
        return write_parts((("train", 0), [part]), tmp_path / "out", None, tmp_path / "done").info

    assert shard(b"one").sha256 != shard(b"two").sha256


def test_staged_bytes_that_are_gone_stop_the_job(tmp_path):
    part = stage_part(tmp_path, "c", "c", "train", records("c"))
    next(tmp_path.glob("*.blob")).write_bytes(b"short")
    with pytest.raises(OSError, match="the work folder is damaged"):
        list(read_records([part], None))
