from dataclasses import replace

import cv2
import numpy as np
import pytest

from reactionnet_pipeline import video
from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.drawing import arrangements, composing
from reactionnet_pipeline.drawing.composing import compose, write_truth
from reactionnet_pipeline.drawing.composition import FACE, STIMULUS, Clip, Composition, KnownFace, Placed
from reactionnet_pipeline.drawing.faces import LOOKS, Reactor, draw_pair, draw_reactor
from reactionnet_pipeline.drawing.heads import Pose
from reactionnet_pipeline.drawing.known_faces import with_detected_faces
from reactionnet_pipeline.drawing.sound import sound
from reactionnet_pipeline.drawing.stimuli import STIMULI
from reactionnet_pipeline.records import Box

SIZE = (320, 180)


def plain(rgb, size=(160, 90), box=None):
    """A clip of one colour; with a box, a white rectangle there that counts as a face."""
    picture = np.full((size[1], size[0], 3), rgb, np.uint8)
    faces = []
    if box is not None:
        picture[box.y : box.y + box.h, box.x : box.x + box.w] = 255
        faces = [[KnownFace(subject_id="ann", box=box)]]
    return Clip(name="plain", frames=[picture], faces=faces)


def first_picture(folder, record):
    path = folder / record["file"]
    info = video.probe(path)
    ((_, (picture,)),) = video.read_frames(path, info, 0, 1, lambda _: [video.whole(info)])
    return picture.astype(int)


def test_panes_lie_where_the_truth_says(tmp_path):
    placed = arrangements.side_by_side(plain((200, 30, 30)), plain((30, 30, 200)), SIZE, share=0.6, gap=8, margin=10)
    record = compose(
        Composition(video_id="v", layout="side_by_side", placed=placed, size=SIZE, duration_s=0.2), tmp_path
    )
    picture = first_picture(tmp_path, record)
    for pane, rgb in zip(record["panes"], [(200, 30, 30), (30, 30, 200)], strict=True):
        inside = np.abs(picture - rgb).max(axis=2) < 100
        x, y, w, h = cv2.boundingRect(inside.astype(np.uint8))
        assert (x, y, w, h) == (pane["x"], pane["y"], pane["w"], pane["h"])
    assert [pane["role"] for pane in record["panes"]] == [STIMULUS, FACE]


def test_face_boxes_move_with_crop_and_scale(tmp_path):
    face = plain((20, 60, 20), box=Box(x=60, y=30, w=40, h=30))
    placed = [Placed(clip=face, role=FACE, x=100, y=20, w=160, h=140, zoom=1.5)]
    record = compose(Composition(video_id="v", layout="full_face", placed=placed, size=SIZE, duration_s=0.2), tmp_path)
    ((true,),) = [sample["faces"] for sample in record["face_boxes"]]
    bright = first_picture(tmp_path, record).min(axis=2) > 140
    assert np.allclose(cv2.boundingRect(bright.astype(np.uint8)), true["box"], atol=1.1)
    assert true["visible_fraction"] == 1.0


def test_a_later_pane_hides_part_of_a_face():
    face = plain((20, 60, 20), box=Box(x=60, y=30, w=40, h=30))
    below = Placed(clip=face, role=FACE, x=0, y=0, w=160, h=90)
    above = Placed(clip=plain((9, 9, 9)), role=STIMULUS, x=90, y=0, w=100, h=100)
    composition = Composition(video_id="v", layout="pip", placed=[below, above], size=SIZE)
    (true,) = composing._Panes(composition).faces(0.0)
    assert true["visible_fraction"] == 0.75


def test_a_round_pane_leaves_its_corners_to_the_stimulus(tmp_path):
    look = {"shape": "round", "aspect": 1, "share": 0.4, "corner": "top left"}
    placed = arrangements.pip(plain((230, 230, 230)), plain((20, 20, 90)), SIZE, **look)
    record = compose(Composition(video_id="v", layout="pip", placed=placed, size=SIZE, duration_s=0.2), tmp_path)
    picture, pane = first_picture(tmp_path, record), record["panes"][1]
    bright = (picture.min(axis=2) > 130).astype(np.uint8)
    assert np.allclose(cv2.boundingRect(bright), (pane["x"], pane["y"], pane["w"], pane["h"]), atol=1)
    assert bright.sum() == pytest.approx(np.pi / 4 * pane["w"] * pane["h"], rel=0.02)
    assert pane["shape"] == "round"


def test_a_cut_out_pane_is_where_the_person_is():
    mask = np.zeros((90, 160), np.uint8)
    mask[40:90, 50:110] = 255
    person = replace(plain((230, 200, 180)), masks=[mask])
    placed = arrangements.cutout(person, plain((20, 20, 90)), SIZE, share=0.5)
    pane = composing._pane_record(Composition(video_id="v", layout="pip", placed=placed, size=SIZE), 1)
    assert [pane[side] for side in "xywh"] == [160 + 50, 90 + 40, 60, 50]


def test_a_rotation_tag_is_undone_by_the_reader(tmp_path):
    size = (180, 320)
    placed = arrangements.top_bottom(plain((200, 30, 30)), plain((30, 30, 200)), size)
    for degrees in (90, 180, 270):
        composition = Composition(
            video_id=f"r{degrees}", layout="top_bottom", placed=placed, size=size, duration_s=0.2, rotation=degrees
        )
        record = compose(composition, tmp_path)
        picture = first_picture(tmp_path, record)
        assert picture.shape == (320, 180, 3)
        assert picture[:150, :, 0].min() > 150
        assert picture[170:, :, 2].min() > 150


def test_frames_of_a_variable_rate_lie_at_the_times_of_the_truth(tmp_path):
    placed = [Placed(clip=plain((80, 90, 100)), role=STIMULUS, x=0, y=0, w=320, h=180)]
    composition = Composition(
        video_id="v", layout="pip", placed=placed, size=SIZE, duration_s=2, variable_rate=True, sound=None
    )
    record = compose(composition, tmp_path)
    info = video.probe(tmp_path / "v.mp4")
    assert info.num_frames == record["frames"] < 45
    assert [info.times_s[sample["frame"]] for sample in record["face_boxes"]] == pytest.approx(
        [sample["t"] for sample in record["face_boxes"]], abs=1e-4
    )
    assert not info.has_audio


def test_the_same_composition_gives_the_same_bytes(tmp_path):
    placed = arrangements.pip(plain((200, 30, 30)), plain((30, 30, 200)), SIZE, shadow=3, border=2, shape="rounded")
    composition = Composition(video_id="v", layout="pip", placed=placed, size=SIZE, duration_s=0.5, noise=5)
    assert compose(composition, tmp_path)["sha256"] == compose(composition, tmp_path)["sha256"]
    assert compose(replace(composition, seed=1), tmp_path)["sha256"] != compose(composition, tmp_path)["sha256"]


def test_a_layout_change_is_written_with_its_times(tmp_path):
    split = arrangements.side_by_side(plain((200, 30, 30)), plain((30, 30, 200)), SIZE)
    placed = arrangements.layout_change(plain((30, 30, 200)), split, SIZE, start_s=0.4, end_s=0.8)
    composition = Composition(video_id="v", layout="layout_change", placed=placed, size=SIZE, duration_s=1.2)
    record = compose(composition, tmp_path)
    spans = [(pane["role"], pane["start"], pane["end"]) for pane in record["panes"]]
    assert spans == [(FACE, 0.0, 0.4), (STIMULUS, 0.4, 0.8), (FACE, 0.4, 0.8), (FACE, 0.8, 1.2)]
    reds = [picture[90, 60, 0] > 120 for _, picture in composing.pictures(composition)]
    assert [n for n in range(1, 30) if reds[n] != reds[n - 1]] == [10, 20]


def test_the_manifest_has_a_row_a_video(tmp_path):
    placed = arrangements.pip(plain((200, 30, 30), box=Box(x=9, y=9, w=9, h=9)), plain((1, 2, 3)), SIZE)
    record = compose(Composition(video_id="v", layout="pip", placed=placed, size=SIZE, duration_s=0.2), tmp_path)
    write_truth([record], tmp_path)
    (line,) = (tmp_path / "sources.jsonl").read_text().splitlines()
    for part in ('"license": "CC0-1.0"', '"subject_ids": ["ann"]', '"uri": "v.mp4"', record["sha256"]):
        assert part in line


def test_odd_sizes_and_unknown_sounds_are_errors(tmp_path):
    composition = Composition(video_id="v", layout="pip", placed=[], size=(321, 180), duration_s=0.2)
    with pytest.raises(ValueError, match="321x180"):
        compose(composition, tmp_path)
    with pytest.raises(ValueError, match="bells"):
        sound("bells", 1.0, 0)


@pytest.fixture(scope="module")
def clips():
    return {name: draw_reactor(name, LOOKS[name], size=(320, 240), duration_s=0.4, fps=5, seed=7) for name in LOOKS}


@pytest.mark.parametrize("name", LOOKS)
def test_detectors_find_each_drawn_person_once(clips, name):
    dlib = pytest.importorskip("dlib")
    for picture in clips[name].frames:
        (face,) = detect_faces(picture)
        assert face.score >= 0.9
        (hog,) = dlib.get_frontal_face_detector()(picture, 0)
        assert face.box.iou(Box(x=hog.left(), y=hog.top(), w=hog.width(), h=hog.height())) > 0.4
        small = cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA)
        (face,) = detect_faces(small)
        assert 40 < face.box.w < 60


def test_five_points_lie_on_the_painted_features():
    reactor = Reactor(LOOKS["hui"], size=(320, 240), unit=50, eyes=(160, 100), seed=0)
    (face,) = detect_faces(reactor.picture(Pose())[0])
    mouth_y = 100 + 50 * reactor.head.mouth_y
    expected = [(160 - 50 * reactor.head.eye_x, 100), (160 + 50 * reactor.head.eye_x, 100)]
    assert np.allclose(face.points[:2], expected, atol=5)
    assert np.allclose([y for _, y in face.points[3:]], mouth_y, atol=5)


@pytest.mark.parametrize("turn", [{"yaw": 9.0}, {"pitch": 8.0}])
def test_a_turned_head_moves_its_nose_more_than_its_ears(turn):
    reactor = Reactor(LOOKS["bo"], size=(320, 240), unit=50, eyes=(160, 100), seed=0)
    (still,), (turned,) = (detect_faces(reactor.picture(pose)[0]) for pose in (Pose(), Pose(**turn)))
    nose, eye = (np.subtract(turned.points[n], still.points[n]) for n in (2, 0))
    along = 0 if "yaw" in turn else 1
    direction = 1 if "yaw" in turn else -1  # to the right of the picture, or up
    assert direction * nose[along] > direction * eye[along] + 2


def test_boxes_of_two_people_keep_their_names():
    pair = draw_pair("pair", (LOOKS["ada"], LOOKS["bo"]), duration_s=0.4, fps=5, seed=3)
    known = with_detected_faces(pair, ["ada", "bo"], every=1)
    assert known.subject_ids == ["ada", "bo"]
    for ada, bo in known.faces:
        assert ada.box.x + ada.box.w < bo.box.x


def test_a_clip_without_the_faces_it_promises_is_an_error():
    with pytest.raises(ValueError, match="1 faces"):
        with_detected_faces(plain((90, 90, 90)), ["ann"])


@pytest.mark.parametrize("kind", STIMULI)
def test_stimuli_move_and_only_the_talking_head_has_a_face(kind):
    clip = STIMULI[kind](3, size=(320, 180), duration_s=0.8)
    assert len(clip.frames) == 20
    assert np.abs(clip.frames[0].astype(int) - clip.frames[-1]).mean() > 0.5
    assert len(detect_faces(clip.frames[5])) == (kind == "talking_head")


def test_playing_back_and_forth_never_jumps():
    clip = Clip(name="c", frames=[np.zeros((2, 2, 3), np.uint8)] * 4, fps=10)
    assert [clip.index_at(n / 10) for n in range(10)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]


def test_people_of_one_clip_are_named_from_the_left():
    def face(subject: str, x: float) -> KnownFace:
        return KnownFace(subject_id=subject, box=Box(x=x, y=0, w=9, h=9), score=1.0, source="mtcnn")

    clip = Clip(name="pair", frames=[], faces=[[face("ann", 50), face("zoe", 10)], [face("ann", 45)]])
    assert clip.subject_ids == ["zoe", "ann"]
