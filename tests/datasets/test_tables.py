import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reactionnet_datasets.tables import (
    FRAMES,
    TABLES,
    data_dictionary,
    make_table,
    read_table,
    schema_of,
    write_part,
)


def frames(*rows):
    return make_table(rows, schema_of("frames", ["all"], ["scene", "au_int_1"]))


ROW = {"key": "k", "video_id": "v", "frame": 0, "split_all": "train", "folds": [("f3", 1)]} | {
    "scene": "game",
    "scene_mask": "valid",
}


def test_the_dictionary_lists_every_column_and_says_what_it_means():
    text = data_dictionary()
    for table, columns in TABLES.items():
        section = text.split(f"### `{table}`\n")[1].split("###")[0]
        for name, (_, meaning) in columns.items():
            assert f"| `{name}` |" in section
            assert f"| {meaning} |" in section
            assert meaning


def test_frames_have_a_column_a_task_and_two_a_label():
    names = frames(ROW).column_names
    assert names == [*FRAMES, "split_all", "scene", "scene_mask", "au_int_1", "au_int_1_mask"]


def test_a_column_that_the_table_lacks_is_refused():
    with pytest.raises(ValueError, match=r"row has columns \['subjct_id'\]"):
        frames({**ROW, "subjct_id": "ann"})


def test_a_folder_of_parts_reads_as_one_table_with_words_of_each(tmp_path):
    parts = [
        write_part(tmp_path, "frames", "train-00000", frames(ROW, {**ROW, "frame": 1, "scene": "talk"})),
        write_part(tmp_path, "frames", "train-00001", frames({**ROW, "video_id": "w"})),
        write_part(tmp_path, "frames", "val-00000", frames()),
    ]
    whole = pq.read_table(tmp_path / "tables" / "frames.parquet")
    ours = read_table(tmp_path, "frames", parts)
    assert whole.num_rows == ours.num_rows == 3
    assert sorted(whole["video_id"].to_pylist()) == ["v", "v", "w"]
    assert ours["scene"].to_pylist() == ["game", "talk", "game"]
    assert ours["au_int_1"].to_pylist() == [None] * 3
    assert ours["folds"].to_pylist()[0] == [("f3", 1)]
    assert ours.schema.field("frame").type == pa.int64()


def test_the_same_rows_make_the_same_file(tmp_path):
    one = write_part(tmp_path / "a", "frames", "s", frames(ROW))
    other = write_part(tmp_path / "b", "frames", "s", frames(ROW))
    assert one == other
    assert (tmp_path / "a" / one).read_bytes() == (tmp_path / "b" / one).read_bytes()
    assert write_part(tmp_path / "a", "frames", "s", frames({**ROW, "frame": 5})) != one


def test_no_part_at_all_is_an_empty_table(tmp_path):
    assert read_table(tmp_path, "captions", []).column_names == list(TABLES["captions"])
