"""The Parquet tables beside the shards: one schema for built and imported data, null where a column does not apply.

Each table is a folder of parts (`tables/frames.parquet/`), which pyarrow reads as one table. The data dictionary is
generated from the descriptions here: `python -m reactionnet_datasets.tables`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reactionnet_datasets.labels import column_of
from reactionnet_datasets.shards import atomic_file, file_sha256
from reactionnet_datasets.stores import Place, local

Columns = dict[str, tuple[pa.DataType, str]]

_WORD = pa.dictionary(pa.int32(), pa.string())
_MAP_INT = pa.map_(pa.string(), pa.int32())
_SHARES = pa.map_(pa.string(), pa.float32())

FRAMES: Columns = {
    "key": (pa.string(), "key of the record (chunk) that holds the frame"),
    "dataset": (_WORD, "name of the data set"),
    "video_id": (_WORD, "the source"),
    "subject_id": (_WORD, "whose face it is; null where unknown"),
    "clip_id": (_WORD, "run of frames without a gap or layout change; windows never cross it"),
    "person": (_WORD, "tells several people of one video apart"),
    "frame": (pa.int64(), "number of the frame as the labels count it; built data count decoded frames from 0"),
    "t_s": (pa.float64(), "time stamp, seconds from the start of the video as a player shows it"),
    "face_x": (pa.float32(), "face box, left edge, pixels of the upright picture (MTCNN's convention)"),
    "face_y": (pa.float32(), "face box, top edge"),
    "face_w": (pa.float32(), "face box, width"),
    "face_h": (pa.float32(), "face box, height"),
    "face_source": (_WORD, "detected, tracked or interpolated; release: as the data set's owners give it"),
    "yaw": (pa.float32(), "head pose, degrees; positive turns the face to the right edge of the picture"),
    "pitch": (pa.float32(), "head pose, degrees; positive looks up"),
    "roll": (pa.float32(), "head pose, degrees; positive tilts clockwise"),
    "gaze_yaw": (
        pa.float32(),
        "where the eyes turn in the head, degrees; positive to the right edge; null if not seen",
    ),
    "gaze_pitch": (pa.float32(), "where the eyes turn in the head, degrees; positive looks up; null if not seen"),
    "highlight": (
        pa.float32(),
        "how strongly the face reacts (see `reactionnet_pipeline.highlights`); null if unknown",
    ),
    "source_path": (pa.string(), "file the picture came from, relative to the release; null for built data"),
    "shard": (_WORD, "tar that holds the frame, relative to the data set's folder"),
    "member": (pa.string(), "member of the tar with the frame's face picture; null in a release of features alone"),
    "folds": (_MAP_INT, "part of each published protocol that the frame belongs to"),
}

WINDOWS: Columns = {
    "key": (pa.string(), "key of the record (chunk)"),
    "dataset": (_WORD, "name of the data set"),
    "video_id": (_WORD, "the source"),
    "subject_id": (_WORD, "whose face it is"),
    "clip_id": (_WORD, "the clip that the chunk is a part of"),
    "person": (_WORD, "tells several people of one video apart"),
    "first_frame": (pa.int64(), "number of the chunk's first frame"),
    "num_frames": (pa.int32(), "frames in the chunk, at most 128"),
    "clip_first_frame": (pa.int64(), "number of the clip's first frame"),
    "clip_num_frames": (pa.int64(), "frames in the whole clip"),
    "start_s": (pa.float64(), "time stamp of the first frame, seconds"),
    "end_s": (pa.float64(), "time stamp of the last frame, seconds"),
    "fps": (pa.float64(), "median frame rate of the video"),
    "highlight": (pa.float32(), "mean over the frames of how strongly the face reacts; null if unknown"),
    "has_stimulus": (pa.bool_(), "whether the record holds stimulus pictures"),
    "has_audio": (pa.bool_(), "whether the record holds sound"),
    "shard": (_WORD, "tar that holds the record, relative to the data set's folder"),
    "num_bytes": (pa.int64(), "bytes of the record in the tar"),
}

LAYOUTS: Columns = {
    "video_id": (_WORD, "the source"),
    "role": (_WORD, "stimulus or reaction"),
    "x": (pa.int32(), "left edge, pixels of the upright picture"),
    "y": (pa.int32(), "top edge"),
    "w": (pa.int32(), "width"),
    "h": (pa.int32(), "height"),
    "start_s": (pa.float64(), "when the pane appears, seconds"),
    "end_s": (pa.float64(), "when it is gone"),
    "confidence": (pa.float32(), "0 to 1; 1 for a layout drawn by hand"),
    "shape": (_WORD, "rect, round (the rectangle is the bounding box) or cutout"),
    "z": (pa.int32(), "order of overlapping panes; a larger one hides a smaller one"),
    "origin": (_WORD, "detected, manifest or override"),
}

CAPTIONS: Columns = {
    "video_id": (_WORD, "the source"),
    "clip_id": (_WORD, "the clip whose stimulus is described"),
    "t_s": (pa.float64(), "time of the key frame, seconds"),
    "decoding": (_WORD, "beam, nucleus or human"),
    "text": (pa.string(), "the description"),
    "score": (pa.float32(), "log-likelihood a token; null for a human's"),
    "model": (_WORD, "name and digest of the model; null for a human's"),
}

SUBJECTS: Columns = {
    "subject_id": (pa.string(), "the subject"),
    "dataset": (_WORD, "name of the data set"),
    "split": (_WORD, "train, val or test"),
    "id_origin": (
        _WORD,
        "manifest; where it names nobody, face if faces told who is who, else video: such a subject is known in one video"
        " only; release: by the data set's owners",
    ),
    "num_videos": (pa.int32(), "videos in which frames of the subject were written"),
    "num_clips": (pa.int32(), "clips"),
    "num_frames": (pa.int64(), "frames"),
    "face_px": (pa.float32(), "median width of the face box, pixels"),
    "crops": (pa.int32(), "face pictures that the following estimates rest on; null where nothing was estimated"),
    "age": (pa.float32(), "apparent age in years, median over the crops; null where unknown"),
    "age_group": (_WORD, "decade of the apparent age, such as 20-29, or unknown"),
    "age_confidence": (pa.float32(), "share of the crops whose age lies near their median (5 years)"),
    "age_distribution": (_SHARES, "share of the crops by decade"),
    "gender": (_WORD, "woman or man, as a face looks to the model; unknown below the confidence floor"),
    "gender_confidence": (pa.float32(), "mean probability of the likeliest class over the crops"),
    "gender_distribution": (_SHARES, "mean probabilities"),
    "ethnicity": (
        _WORD,
        "asian, indian, black, white, middle_eastern, latino_hispanic, as a face looks to the model, or unknown",
    ),
    "ethnicity_confidence": (pa.float32(), "mean probability of the likeliest class over the crops"),
    "ethnicity_distribution": (_SHARES, "mean probabilities"),
    "emotion": (_WORD, "the prevailing expression over the best crops, or unknown"),
    "emotion_confidence": (pa.float32(), "mean probability of the likeliest class over the crops"),
    "emotion_distribution": (_SHARES, "mean probabilities"),
    "demographics_model": (_WORD, "name and digest of the model; null where nothing was estimated"),
}

SOURCES: Columns = {
    "video_id": (pa.string(), "the source"),
    "dataset": (_WORD, "name of the data set"),
    "split": (_WORD, "train, val or test"),
    "uri": (pa.string(), "where it came from, as the manifest has it, credentials removed"),
    "sha256": (pa.string(), "of the source file"),
    "license": (_WORD, "SPDX expression"),
    "creator": (pa.string(), "whom to credit"),
    "title": (pa.string(), "title"),
    "consent": (pa.string(), "reference to the consent given"),
    "stimulus_id": (_WORD, "what is being watched"),
    "stimulus_scene": (_WORD, "scene type of the stimulus"),
    "sub_scene": (_WORD, "finer type of the stimulus"),
    "subject_ids": (pa.list_(pa.string()), "who is seen, as the manifest has it"),
    "width": (pa.int32(), "pixels, upright"),
    "height": (pa.int32(), "pixels, upright"),
    "fps": (pa.float64(), "median frame rate"),
    "num_frames": (pa.int64(), "frames that the file holds"),
    "duration_s": (pa.float64(), "seconds"),
    "has_audio": (pa.bool_(), "whether there is sound"),
    "clips": (pa.int32(), "clips written"),
    "frames": (pa.int64(), "frames written"),
    "extra": (pa.string(), "further fields of the manifest row, as JSON"),
}

_KEY_FRAME = (
    "key",
    "dataset",
    "video_id",
    "subject_id",
    "clip_id",
    "person",
    "frame",
    "t_s",
    "highlight",
    "shard",
    "member",
)
KEY_FRAMES: Columns = {name: FRAMES[name] for name in _KEY_FRAME}  # frames chosen for annotation by hand

TABLES: dict[str, Columns] = {
    "frames": FRAMES,
    "windows": WINDOWS,
    "layouts": LAYOUTS,
    "captions": CAPTIONS,
    "key_frames": KEY_FRAMES,
    "subjects": SUBJECTS,
    "sources": SOURCES,
}


def schema_of(table: str, splits: Iterable[str] = (), labels: Iterable[str] = ()) -> pa.Schema:
    """The Arrow schema of a table; `frames` takes a `split_<task>` column a task, two columns a label.

    Words are dictionary-coded, all other labels are numbers. ValueError for a label that `labels.COLUMNS` lacks.
    """
    fields = [pa.field(name, kind) for name, (kind, _) in TABLES[table].items()]
    fields += [pa.field(f"split_{task}", _WORD) for task in splits]
    for label in labels:
        fields += [pa.field(label, _WORD if column_of(label).words else pa.float32()), pa.field(f"{label}_mask", _WORD)]
    return pa.schema(fields)


def make_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table. ValueError, with the row, where one has a column that the schema lacks."""
    rows = list(rows)
    known = set(schema.names)
    for row in rows:
        if not known.issuperset(row):
            raise ValueError(f"row has columns {sorted(set(row) - known)} that the table lacks")
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def write_part(root: Place, table: str, stem: str, content: pa.Table) -> str:
    """Write one part of a table; its path, relative to `root`, holds the first digits of its sha256."""
    folder = root / "tables" / f"{table}.parquet"
    with atomic_file(folder) as (file, naming):
        pq.write_table(content, file, compression="zstd", store_schema=True)
        file.flush()
        naming.name = f"{stem}-{file_sha256(Path(file.name))[:12]}.parquet"
    return f"tables/{table}.parquet/{naming.name}"


def read_part(root: Place, part: str, columns: list[str] | None = None) -> pa.Table:
    """One part of a table, or some columns of it."""
    with local(root / part) as file:
        return pq.read_table(file, columns=columns)


def read_table(root: Place, table: str, parts: Iterable[str]) -> pa.Table:
    """The listed parts (paths relative to `root`) as one table, in order; an empty table where there is none."""
    tables = [read_part(root, part) for part in parts]
    if not tables:
        return schema_of(table).empty_table()
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()


def data_dictionary() -> str:
    """All tables and columns in Markdown."""
    lines = []
    for table, columns in TABLES.items():
        lines += [f"### `{table}`", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {_plain(kind)} | {meaning} |" for name, (kind, meaning) in columns.items()]
        lines += [""]
    lines += [
        "`frames` also has `split_<task>` (built data: `split_all`), and a column and a `_mask` column for each label.",
        "A mask is one of `valid`, `not_annotated`, `uncodable`, `invalid_code`, `withheld`, `rule_gave_none`;",
        "a masked value is null, never 0.",
    ]
    return "\n".join(lines) + "\n"


def _plain(kind: pa.DataType) -> str:
    return "word" if pa.types.is_dictionary(kind) else str(kind)


if __name__ == "__main__":
    print(data_dictionary(), end="")
