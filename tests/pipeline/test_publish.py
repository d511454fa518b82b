"""The small tables of a build, written from one summary after another."""

from reactionnet_datasets.tables import make_table, schema_of
from reactionnet_pipeline.publish import _Growing


def test_a_table_that_grows_by_rows_is_the_table_of_all_rows():
    rows = [
        {"video_id": f"v{n // 3}", "role": ("stimulus", "reaction")[n % 2], "x": n, "shape": f"s{n // 4096}"}
        for n in range(2 * _Growing.BATCH + 5)
    ]
    growing = _Growing("layouts")
    for row in rows:
        growing.add(row)
    assert growing.table().equals(make_table(rows, schema_of("layouts")))
    assert _Growing("layouts").table().equals(schema_of("layouts").empty_table())
