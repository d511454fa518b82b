import pytest

from reactionnet_pipeline.config import Config, with_settings


def test_settings_take_the_type_of_their_field():
    config = with_settings(
        Config(),
        [
            "decode.quality=80",
            "segment.length_s = 20",
            "decode.fps=12.5",
            "clips.dataset=mine",
            "decode.faces.tracker=boosting",
        ],
    )
    assert (config.decode.quality, config.segment.length_s, config.decode.fps) == (80, 20.0, 12.5)
    assert (config.clips.dataset, config.decode.faces.tracker) == ("mine", "boosting")
    assert config.layout == Config().layout


def test_none_goes_back_to_no_limit_and_the_last_setting_wins():
    assert with_settings(Config(), ["decode.fps=5", "decode.fps=None"]).decode.fps is None


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("decode.quality", "expected stage.field=value"),
        ("decode.qualty=80", "no setting 'qualty' in reactionnet_pipeline.decode; did you mean quality?"),
        ("decod.quality=80", "did you mean decode?"),
        ("zzz.quality=80", "known are layout, segment, decode, embeddings, identity, clips"),
        ("decode=80", "decode is a group of settings"),
        ("decode.quality.x=80", "quality is one value and has no field 'x'"),
        ("decode.quality=good", "'good'"),
        ("decode.quality=None", "'None'"),
        ("decode.fps=nan", "'nan' is not a finite number"),
        ("segment.length_s=0", "a segment has at least 1 s"),
        ("limits.decode_s=-1", "a limit is more than 0 s"),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_what_is_near(setting, reason):
    with pytest.raises(ValueError, match=f"--set {setting}") as caught:
        with_settings(Config(), [setting])
    assert reason in str(caught.value)
