"""What every importer owes, asked once: `check_importer`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fake.printed import says
from reactionnet_datasets.about import load_importer, make_options
from reactionnet_datasets.doctor import published_frames
from reactionnet_datasets.import_plan import Plan, plan
from reactionnet_datasets.import_publish import publish
from reactionnet_datasets.importing import write_job
from reactionnet_datasets.labels import column_of, fault_of
from reactionnet_datasets.release import Release
from reactionnet_datasets.sample import MASKS, Chunk, is_key
from reactionnet_datasets.shards import ShardInfo, file_sha256, read_manifest, scan_tar
from reactionnet_datasets.tabulate import read_chunks
from reactionnet_datasets.validate import validate

Rows = list[dict[str, Any]]


def run_import(name: str, root: Path, out: Path, *, allow_missing: bool = False, **options: str) -> Plan:
    """An import in this process."""
    module = load_importer(name)
    planned = plan(
        Release(root), module, make_options(module, options), out, out.with_name(out.name + ".work"),
        target_bytes=1 << 20, allow_missing=allow_missing,
    )  # fmt: skip
    publish(out, module.ABOUT, planned, [write_job(job) for job in planned.jobs])
    return planned


def digests(out: Path) -> dict[str, str]:
    """sha256 of every published file."""
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(out).as_posix(): file_sha256(path) for path in sorted(files)}


def frame_rows(out: Path) -> Rows:
    """The frames table, sorted by video, person and frame."""
    rows = published_frames(out).to_pylist()
    return sorted(rows, key=lambda row: (row["video_id"], row["person"], row["frame"]))


def read_member(out: Path, row: Mapping[str, Any], role: str = "reaction") -> bytes:
    """The picture that a row of the frames table names."""
    key, _, suffix = row["member"].partition(".")
    for member in scan_tar(out / row["shard"]).to_pylist():
        same = member["suffix"].split(".")[:2] == [suffix.split(".")[0], role]
        if member["key"] == key and same:
            with (out / row["shard"]).open("rb") as tar:
                tar.seek(member["offset"])
                return tar.read(member["size"])
    raise AssertionError(f"{row['shard']} holds no {role} picture for {row['member']}")


def chunks_of(out: Path) -> list[tuple[Chunk, dict[str, bytes]]]:
    """Every record's json and small arrays."""
    found = []
    for entry in read_manifest(out)["splits"].values():
        for shard in entry["shards"]:
            info = ShardInfo(**{name: shard[name] for name in ShardInfo.__dataclass_fields__})
            found += [(chunk, arrays) for chunk, _, arrays in read_chunks(out, info)]
    return found


def assert_golden(rows: Rows, golden: Sequence[Mapping[str, Any]]) -> None:
    """Every row has the values of its golden row, and there are no others."""
    assert len(rows) == len(golden), f"{len(rows)} rows; expected {len(golden)}"
    for row, wanted in zip(rows, golden, strict=True):
        shown = {name: dict(row[name]) if name == "folds" else row[name] for name in wanted}
        close = {n: round(v, 5) if isinstance(v, float) else v for n, v in shown.items()}
        assert close == dict(wanted), f"{row['video_id']} frame {row['frame']}"


def check_importer(
    name: str, root: Path, tmp_path: Path, golden: Sequence[Mapping[str, Any]], printed: Callable[[Mapping], str | None],
    **options: str,
) -> Path:  # fmt: skip
    """Import a fake release twice and ask what every importer owes. Returns the folder of the data set.

    `golden` are the rows of the frames table, typed by hand: one mapping a row in the order of video, person and frame,
    of the columns that matter. `printed(row)` is the text that the row's picture must show; None skips the picture.
    """
    out, again = tmp_path / "out", tmp_path / "again"
    run_import(name, root, out, **options)
    run_import(name, root, again, **options)
    assert digests(out) == digests(again), "two imports differ"
    rows = frame_rows(out)
    assert_golden(rows, golden)
    for row in rows:
        text = printed(row)
        assert text is None or says(read_member(out, row), text), f"the picture of {row['member']} does not show {text}"
    _check_contract(out, rows)
    return out


def _check_contract(out: Path, rows: Rows) -> None:
    table: pa.Table = published_frames(out)
    labels = [column.removesuffix("_mask") for column in table.column_names if column.endswith("_mask")]
    assert labels, "no label column"
    keys = [chunk.key for chunk, _ in chunks_of(out)]
    assert len(keys) == len(set(keys)) and all(map(is_key, keys))
    assert len({(row["key"], row["frame"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["source_path"] and not row["source_path"].startswith("/")
        for label in labels:
            column_of(label)
            assert row[f"{label}_mask"] in MASKS
            assert (row[label] is None) == (row[f"{label}_mask"] != "valid")
    parts: dict[tuple[str, str], int] = {}
    for row in rows:
        person = row["subject_id"] or f"video {row['video_id']}"
        for protocol, part in row["folds"]:
            assert parts.setdefault((protocol, person), part) == part, f"{person} is in two parts"
    for chunk, _ in chunks_of(out):
        assert Chunk.from_json(chunk.to_json()) == chunk
        for label, value in chunk.labels.items():
            assert fault_of(label, value) is None
    assert not validate(out).faults
    content = json.loads((out / "dataset.json").read_bytes())
    assert sum(entry["frames"] for entry in content["splits"].values()) == len(rows)
