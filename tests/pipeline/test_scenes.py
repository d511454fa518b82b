from reactionnet_pipeline.scenes import coverage, coverage_section


def source(scene, sub_scene=None, clips=2, frames=100):
    return {"stimulus_scene": scene, "sub_scene": sub_scene, "clips": clips, "frames": frames}


ROWS = [
    source("Film", "rainy street"), source("movie", "<b>new</b>", clips=1, frames=7), source("self-made"),
    source("other"), source(None), source(None, "vlog"),
]  # fmt: skip


def test_every_type_is_counted_the_missing_ones_too():
    counts = {count.title: count for count in coverage(ROWS)}
    assert list(counts)[:8] == [
        "animation", "film", "game", "object", "show", "sports", "self-made video", "interview/public speech",
    ]  # fmt: skip
    film = counts["film"]
    assert (film.sources, film.clips, film.frames) == (2, 3, 107)
    assert film.sub_scenes == {"rainy_street": 1, "<b>new<_b>": 1}
    assert film.new == ("<b>new<_b>",)
    assert counts["none of the eight"].sources == 1
    assert counts["not given"].sources == 2
    assert counts["not given"].new == ()
    assert counts["game"].sources == 0
    assert sum(count.frames for count in counts.values()) == sum(row["frames"] for row in ROWS)


def test_types_of_no_kind_are_left_out_where_there_are_none():
    assert [count.title for count in coverage([source("game")])][-1] == "interview/public speech"


def test_the_section_names_what_is_missing_and_escapes_what_was_written():
    section = coverage_section(ROWS)
    assert "Nothing was built of: animation, game, object, show, sports, interview/public speech." in section
    assert "&lt;b&gt;new&lt;_b&gt; (1)" in section
    assert "<b>new" not in section
