import json

import pytest

from reactionnet_datasets.labels import CLASSES, fault_of
from reactionnet_datasets.scenes import known_sub_scene, scene_file, scene_labels, scene_of


def test_the_file_holds_the_eight_types_of_the_paper():
    assert tuple(scene_file()["types"]) == CLASSES[scene_file()["space"]]
    assert len(scene_file()["types"]) == 8
    assert scene_file()["version"] == 1


@pytest.mark.parametrize(
    "text, scene",
    [("Animation", "animation"), ("self-made video", "self_made_video"), ("self-made", "self_made_video"),
     ("interview/public speech", "interview"), ("interview", "interview"), ("movie", "film"), ("other", None)],
)  # fmt: skip
def test_every_spelling_is_one_type(text, scene):
    assert scene_of(text) == scene


@pytest.mark.parametrize(
    "text, hint", [("animatoin", "did you mean 'animation'"), ("self made vid", "did you mean 'self-made video'"),
                   ("sporst", "did you mean 'sports'"), ("qqqq", "expected one of animation, film, game")]
)  # fmt: skip
def test_a_type_that_does_not_exist_is_answered_with_the_nearest(text, hint):
    with pytest.raises(ValueError, match=rf"{text}.*does not exist.*{hint}"):
        scene_of(text)


def test_labels_say_what_was_written_and_why_nothing_is_there():
    labels = scene_labels("Interview/Public Speech", "two people")
    assert (labels["scene"].value, labels["scene"].raw) == ("interview", "Interview/Public Speech")
    assert (labels["sub_scene"].value, labels["sub_scene"].rule) == ("two_people", "scenes-1")
    assert scene_labels("other", None)["scene"].mask == "uncodable"
    assert scene_labels(None, None)["scene"].mask == "not_annotated"
    assert all(fault_of(name, label) is None for name, label in labels.items())


def test_sub_scenes_are_open_and_the_known_ones_are_told_apart():
    assert known_sub_scene("show", "magic trick")
    assert not known_sub_scene("film", "magic trick")
    assert not known_sub_scene(None, "a new one")


def test_every_shared_manifest_passes(shared):
    for folder in ("reaction_videos", "rendered_facs/reaction_videos"):
        for line in (shared / folder / "manifest.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert scene_labels(row["stimulus_scene"], row.get("sub_scene"))
