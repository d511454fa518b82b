import numpy as np
import pytest

from reactionnet_pipeline.key_frames import Config, choose

FPS = 25


def times(seconds):
    return [n / FPS for n in range(round(seconds * FPS))]


def own_grey(place):
    """Every picture looks like no other."""
    return np.full((32, 32), 7.0 * place, np.float32)


def test_a_key_frame_follows_each_cut_after_a_moment():
    assert choose(times(3), [25, 50], own_grey, Config()) == [0, 35, 60]


def test_long_shots_get_spaced_key_frames():
    assert choose(times(9), [], own_grey, Config(every_s=4)) == [0, 100, 200]


def test_in_a_very_short_shot_the_middle_is_taken():
    assert choose(times(2), [25, 29], own_grey, Config())[1] == 26


def test_what_looks_the_same_is_described_once():
    def two_shots(place):
        return np.full((32, 32), 10.0 if place < 50 else 90.0, np.float32)

    assert choose(times(60), [25, 50], two_shots, Config(every_s=1)) == [0, 60]


def test_where_there_are_too_many_cuts_go_before_spacing_and_long_shots_before_short_ones():
    assert choose(times(40), [500, 525, 800], own_grey, Config(most=3)) == [0, 535, 810]
    assert choose(times(40), [500, 525, 800], own_grey, Config(most=2)) == [0, 535]


def test_only_pictures_in_question_are_looked_at_and_none_gives_none():
    asked = []
    choose(times(10), [100], lambda place: asked.append(place) or own_grey(place), Config())
    assert len(asked) < 6
    assert choose([], [], own_grey, Config()) == []


@pytest.mark.parametrize("wrong", [{"most": 0}, {"every_s": 0}, {"settle_s": -1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="at least one key frame"):
        Config(**wrong)
