"""`--set`: what hangs on the configuration follows it, and what does not fit is refused."""

import pytest

from reactionnet_models import aar, abaw6, drr, eri
from reactionnet_models.settings import apply_settings


def applied(module, preset, *settings):
    return apply_settings(module.PRESETS[preset], module.RECIPES[preset], settings, module)


def test_what_is_read_of_the_shards_follows_the_configuration():
    assert applied(drr, "static_aud")[1].fields == ("frames", "stimulus", "caption", "labels")
    assert applied(drr, "static_aud", "domains=reaction")[1].fields == ("frames", "labels")
    assert applied(abaw6, "tiny_emi", "text=words", "sound=none")[1].fields == ("frames", "caption", "labels")
    assert applied(eri, "tiny_video", "aligned=40")[1].fields == ("frames", "landmarks49", "labels")
    assert "landmarks49" in applied(aar, "small")[1].fields


def test_windows_follow_the_configuration_but_where_they_are_set():
    def stages(*given):
        return [(one.window, one.stride, one.num_frames) for one in applied(*given)[1].stages]

    assert stages(abaw6, "tiny_au") == [(1, 1, None), (4, 4, None)]
    assert stages(abaw6, "tiny_au", "clip_frames=8") == [(1, 1, None), (8, 8, None)]
    assert stages(abaw6, "tiny_au", "fusion.window=2", "clip_frames=8") == [(1, 1, None), (2, 8, None)]
    assert stages(abaw6, "tiny_emi", "clip_frames=8")[1] == (0, 1, 8)
    assert stages(drr, "tiny_static_aud", "temporal=true") == [(8, 8, None)]
    assert stages(drr, "small_dynamic_aud") == stages(drr, "small_dynamic_aud", "graph_weight=2") == [(24, 12, 6)]


def test_settings_that_only_fit_together_are_taken_in_any_order():
    for given in (["width=36", "heads=3"], ["heads=3", "width=36"]):
        config, _ = applied(eri, "tiny", *given)
        assert (config.width, config.heads) == (36, 3)
    with pytest.raises(ValueError, match="width 16 and heads 3"):
        applied(eri, "tiny", "heads=3")


@pytest.mark.parametrize(
    ("module", "preset", "setting"),
    [(abaw6, "tiny_au", "task=va"), (drr, "tiny_static_aud", "tasks=fer"), (eri, "tiny_audio", "branch=video")],
)
def test_what_another_preset_is_for_is_refused(module, preset, setting):
    with pytest.raises(ValueError, match=f"--set {setting.partition('=')[0]}: that is for another preset"):
        applied(module, preset, setting)
    name = setting.partition("=")[0]
    was = getattr(module.PRESETS[preset], name)
    applied(module, preset, f"{name}={was if isinstance(was, str) else ','.join(was)}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("heads=3", "heads 3 do not divide"),
        ("mask_ratio=1.5", "mask_ratio 1.5; expected more than 0 and less than 1"),
        ("clip_frames=0", "clip_frames 0, layers 1, ffn 32: expected 1 or more each"),
        ("fusion.part=encoders", "no setting is called 'part'"),
        ("fusion.betas=0.9", "betas are .*; expected two"),
    ],
)
def test_what_does_not_fit_is_one_error(setting, message):
    with pytest.raises(ValueError, match=message):
        applied(abaw6, "tiny_au", setting)
