import json

import cv2
import numpy as np
import pytest

from reactionnet_pipeline import layout, outlines, seams
from reactionnet_pipeline.drawing.composing import compose
from reactionnet_pipeline.drawing.composition import Clip, Composition, Placed
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.layout import border_support, find_layout, find_spans, sample_numbers
from reactionnet_pipeline.panes import Config, clusters, find_panes
from reactionnet_pipeline.records import Box, Face
from reactionnet_pipeline.video import VideoInfo, probe

CONFIG = Config(num_samples=24, num_face_samples=12)
WIDTH, HEIGHT = 320, 180
SKIN = (225, 170, 140)


def moving(seed, w, h, count=24):
    """Scenes that change all the time: soft patches of random colours."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (count, 6, 8, 3)).astype(np.uint8)
    return np.stack([cv2.resize(picture, (w, h), interpolation=cv2.INTER_CUBIC) for picture in small])


def reactor(seed, w, h, count=24):
    """Somebody before a wall: a disc of skin that sways, on still shoulders. (frames, boxes of the face)"""
    rng = np.random.default_rng(seed)
    frames, boxes = np.empty((count, h, w, 3), np.uint8), []
    frames[:] = rng.integers(60, 200, 3)
    r = h // 5
    for t, frame in enumerate(frames):
        x, y = w // 2 + round(3 * np.sin(t)), int(h * 0.42) + round(2 * np.cos(1.7 * t))
        cv2.ellipse(frame, (w // 2, h), (int(1.9 * r), int(1.7 * r)), 0, 0, 360, (40, 50, 90), -1)
        cv2.ellipse(frame, (x, y), (r, int(1.3 * r)), 0, 0, 360, SKIN, -1)
        boxes.append(Box(x=x - 0.8 * r, y=y - r, w=1.6 * r, h=2.1 * r))
    return frames, boxes


def screen(count=24, seed=9):
    """A still background that is not of one colour."""
    across = np.linspace(20, 60, WIDTH)[None, :, None] + np.linspace(0, 20, HEIGHT)[:, None, None]
    return np.broadcast_to((across + np.random.default_rng(seed).integers(0, 40, 3)), (count, HEIGHT, WIDTH, 3)).astype(
        np.uint8
    )


def put(canvas, clip, x, y):
    canvas[:, y : y + clip.shape[1], x : x + clip.shape[2]] = clip


def at(boxes, x, y):
    return {t: [Face(box=Box(x=b.x + x, y=b.y + y, w=b.w, h=b.h), score=0.99)] for t, b in enumerate(boxes)}


def places(found):
    return [(p.role, p.place.x0, p.place.y0, p.place.x1 - p.place.x0, p.place.y1 - p.place.y0) for p in found]


@pytest.mark.parametrize("seam", [120, 161, 200])
def test_two_halves_that_touch(seam):
    canvas = screen()
    clip, boxes = reactor(1, WIDTH - seam, HEIGHT)
    put(canvas, moving(2, seam, HEIGHT), 0, 0)
    put(canvas, clip, seam, 0)
    found = find_panes(canvas, at(boxes, seam, 0), CONFIG)
    assert places(found) == [("stimulus", 0, 0, seam, HEIGHT), ("reaction", seam, 0, WIDTH - seam, HEIGHT)]


@pytest.mark.parametrize(("x", "y"), [(8, 6), (214, 6), (8, 99), (220, 105)])
def test_the_stimulus_of_an_inset_is_the_full_rectangle_beneath(x, y):
    canvas = moving(3, WIDTH, HEIGHT)
    clip, boxes = reactor(4, 96, 72)
    put(canvas, clip, x, y)
    found = find_panes(canvas, at(boxes, x, y), CONFIG)
    assert places(found) == [("stimulus", 0, 0, WIDTH, HEIGHT), ("reaction", x, y, 96, 72)]
    assert [pane.z for pane in found] == [0, 1]


def test_panes_on_a_background_leave_the_background_out():
    canvas = screen()
    clip, boxes = reactor(5, 100, 80)
    put(canvas, moving(6, 160, 90), 20, 40)
    put(canvas, clip, 200, 50)
    found = find_panes(canvas, at(boxes, 200, 50), CONFIG)
    assert places(found) == [("stimulus", 20, 40, 160, 90), ("reaction", 200, 50, 100, 80)]


def test_reactors_whose_walls_touch_are_two_panes():
    canvas = screen()
    put(canvas, moving(7, WIDTH, 90), 0, 0)
    (left, left_boxes), (right, right_boxes) = reactor(8, 160, 90), reactor(11, 160, 90)
    put(canvas, left, 0, 90)
    put(canvas, right, 160, 90)
    one, two = at(left_boxes, 0, 90), at(right_boxes, 160, 90)
    found = find_panes(canvas, {t: one[t] + two[t] for t in one}, CONFIG)
    assert places(found)[1:] == [("reaction", 0, 90, 160, 90), ("reaction", 160, 90, 160, 90)]


def test_a_pane_that_hides_a_corner_of_the_stimulus():
    canvas = screen()
    clip, boxes = reactor(12, 110, 90)
    put(canvas, moving(13, 200, 130), 16, 14)
    put(canvas, clip, 180, 80)
    found = find_panes(canvas, at(boxes, 180, 80), CONFIG)
    assert places(found) == [("stimulus", 16, 14, 200, 130), ("reaction", 180, 80, 110, 90)]


def test_a_round_pane():
    canvas = moving(14, WIDTH, HEIGHT)
    clip, boxes = reactor(15, 90, 90)
    mask = cv2.circle(np.zeros((90, 90), np.uint8), (45, 45), 45, 1, -1).astype(bool)
    canvas[:, 80:170, 20:110][:, mask] = clip[:, mask]
    found = find_panes(canvas, at(boxes, 20, 80), CONFIG)
    assert found[1].shape == "round"
    assert found[1].place.iou(seams.Rectangle(x0=20, y0=80, x1=110, y1=170, coverage=(), decoupling=())) > 0.9


def test_a_person_laid_over_the_stimulus():
    canvas = moving(16, WIDTH, HEIGHT)
    clip, boxes = reactor(17, 110, 90)
    person = (clip != clip[:1, :1, :1]).any(axis=-1)
    here = canvas[:, 90:, 200:310]
    here[person] = clip[person]
    found = find_panes(canvas, at(boxes, 200, 90), CONFIG)
    x, y, w, h = cv2.boundingRect((person.mean(axis=0) > 0.5).astype(np.uint8))
    truth = seams.Rectangle(x0=200 + x, y0=90 + y, x1=200 + x + w, y1=90 + y + h, coverage=(), decoupling=())
    assert found[1].shape == "cutout"
    assert found[1].place.iou(truth) > 0.85


def test_hair_is_no_round_pane():
    clip, boxes = reactor(18, WIDTH, HEIGHT)
    assert outlines.find_round(seams.evidence(clip), boxes[0]) is None


def code_of(canvas, faces):
    with pytest.raises(SourceError) as error:
        find_panes(canvas, faces, CONFIG)
    return error.value.code


def test_somebody_who_fills_the_picture_is_no_layout():
    clip, boxes = reactor(19, WIDTH, HEIGHT)
    assert code_of(clip, at(boxes, 0, 0)) == Code.NO_LAYOUT


def test_a_film_alone_is_no_layout():
    assert code_of(moving(20, WIDTH, HEIGHT), {t: [] for t in range(24)}) == Code.NO_LAYOUT


def test_two_panes_without_anybody():
    canvas = np.concatenate([moving(21, 160, HEIGHT), moving(22, 160, HEIGHT)], axis=2)
    assert code_of(canvas, {t: [] for t in range(24)}) == Code.NO_FACE


def test_a_frozen_picture():
    assert code_of(np.repeat(moving(23, WIDTH, HEIGHT)[:1], 24, axis=0), {}) == Code.STATIC_PICTURE


def test_two_people_without_anything_to_watch_are_ambiguous():
    (left, left_boxes), (right, right_boxes) = reactor(24, 160, HEIGHT), reactor(25, 160, HEIGHT)
    one, two = at(left_boxes, 0, 0), at(right_boxes, 160, 0)
    canvas = np.concatenate([left, right], axis=2)
    assert code_of(canvas, {t: one[t] + two[t] for t in one}) in (Code.LAYOUT_AMBIGUOUS, Code.NO_LAYOUT)


def test_a_line_on_the_wall_does_not_divide_a_pane():
    canvas = screen()
    clip, boxes = reactor(26, 160, HEIGHT)
    clip[:, :, 128:130] = 250
    put(canvas, moving(27, 160, HEIGHT), 0, 0)
    put(canvas, clip, 160, 0)
    assert places(find_panes(canvas, at(boxes, 160, 0), CONFIG))[1] == ("reaction", 160, 0, 160, HEIGHT)


def test_noise_moves_no_side():
    canvas = moving(28, WIDTH, HEIGHT)
    clip, boxes = reactor(29, 96, 72)
    put(canvas, clip, 30, 90)
    noise = np.random.default_rng(0).normal(0, 6, canvas.shape)
    noisy = np.clip(canvas + noise, 0, 255).astype(np.uint8)
    found = find_panes(noisy, at(boxes, 30, 90), CONFIG)
    assert np.abs(np.array(places(found)[1][1:]) - (30, 90, 96, 72)).max() <= 1


def test_a_frame_around_a_pane_is_no_part_of_it():
    canvas = moving(30, WIDTH, HEIGHT)
    canvas[:, 86:166, 26:130] = 250
    put(canvas, reactor(31, 96, 72)[0], 30, 90)
    outer = seams.Rectangle(x0=26, y0=86, x1=130, y1=166, coverage=(1,) * 4, decoupling=(1,) * 4)
    (inner,) = seams.refine([outer], seams.evidence(canvas), 1.0, 0.02)
    assert (inner.x0, inner.y0, inner.x1, inner.y1) == (30, 90, 126, 162)


def test_faces_of_one_place_are_one_cluster():
    boxes = [Box(x=10 + t, y=10, w=40, h=50) for t in range(6)]
    faces = {t: [Face(box=box, score=0.9)] for t, box in enumerate(boxes)}
    faces[3].append(Face(box=Box(x=200, y=10, w=40, h=50), score=0.9))
    (first, times), (_, once) = clusters(faces)
    assert (first.x, times, once) == (12.5, set(range(6)), {3})


def jumping():
    """An inset that jumps from one corner to another after 10 of 24 samples."""
    canvas = moving(32, WIDTH, HEIGHT)
    clip, boxes = reactor(33, 96, 72)
    canvas[:10, 6:78, 8:104] = clip[:10]
    canvas[10:, 100:172, 216:312] = clip[10:]
    return canvas, {**at(boxes[:10], 8, 6), **{t: at(boxes, 216, 100)[t] for t in range(10, 24)}}


def known(canvas, faces):
    """A detector that knows the answers."""
    by_picture = {canvas[t].tobytes(): there for t, there in faces.items()}
    return lambda picture: by_picture.get(picture.tobytes(), [])


def test_an_inset_that_jumps_makes_two_spans():
    canvas, faces = jumping()
    first, second = find_spans(canvas, CONFIG, known(canvas, faces))
    assert (first.stop, second.start) == (10, 10)
    assert places(first.panes)[1] == ("reaction", 8, 6, 96, 72)
    assert places(second.panes)[1] == ("reaction", 216, 100, 96, 72)


def test_borders_are_seen_while_they_are_there():
    canvas, faces = jumping()
    first, _ = find_spans(canvas, CONFIG, known(canvas, faces))
    support_T = border_support(canvas, first.panes)
    assert support_T[:10].min() > 0.8
    assert support_T[10:].max() < 0.5


def test_a_long_video_is_looked_at_near_its_key_frames():
    info = VideoInfo(
        width=1280, height=720, rotation=0, times_s=np.arange(90_000) / 25, keyframes=np.arange(0, 90_000, 250),
        duration_s=3600, has_audio=False, start_s=0, codec="h264",
    )  # fmt: skip
    numbers = sample_numbers(info, Config())
    assert len(numbers) <= 2 * Config().max_samples
    assert max(number % 250 for number in numbers) <= 25


def test_a_drawn_video_from_file_to_layout(tmp_path):
    clip, boxes = reactor(34, 120, 90, 25)
    watched = Clip(name="film", frames=list(moving(35, 320, 240, 50)))
    face = Clip(name="ann", frames=list(clip))
    placed = [
        Placed(clip=watched, role="stimulus", x=0, y=0, w=320, h=240),
        Placed(clip=face, role="face", x=190, y=140, w=120, h=90),
    ]
    video = Composition(video_id="v", layout="pip", placed=placed, size=(320, 240), duration_s=2.0, sound=None)
    compose(video, tmp_path)
    path = tmp_path / "v.mp4"
    middle = Box(x=190 + boxes[0].x, y=140 + boxes[0].y, w=boxes[0].w, h=boxes[0].h)
    seen = [find_layout(path, probe(path), CONFIG, lambda _: [Face(box=middle, score=0.9)]) for _ in range(2)]
    assert seen[0] == seen[1]
    stimulus, reaction = seen[0].panes
    assert (stimulus.role, stimulus.w, stimulus.h) == ("stimulus", 320, 240)
    assert reaction.box.iou(Box(x=190, y=140, w=120, h=90)) > 0.97
    assert (reaction.start_s, reaction.end_s) == (0.0, 2.0)


def test_less_than_a_second_is_too_short(tmp_path):
    clip = Clip(name="film", frames=list(moving(36, 160, 90, 5)))
    placed = [Placed(clip=clip, role="stimulus", x=0, y=0, w=160, h=90)]
    compose(
        Composition(video_id="v", layout="full", placed=placed, size=(160, 90), duration_s=0.6, sound=None), tmp_path
    )
    with pytest.raises(SourceError, match="TOO_SHORT"):
        find_layout(tmp_path / "v.mp4", probe(tmp_path / "v.mp4"), CONFIG, lambda _: [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pub02_pip_bottom_right", "pub07_layout_change", "pub08_faces_in_stimulus"])
def test_recorded_videos(shared, name):
    folder = shared / "reaction_videos"
    videos = {v["video_id"]: v for v in json.loads((folder / "ground_truth.json").read_text())["videos"]}
    path = folder / videos[name]["file"]
    found = layout.find_layout(path, probe(path)).panes
    truth = videos[name]["panes"]
    assert len(found) == len(truth)
    for pane in truth:
        box = Box(x=pane["x"], y=pane["y"], w=pane["w"], h=pane["h"])
        role = "reaction" if pane["role"] == "face" else "stimulus"
        assert any(
            p.role == role
            and p.box.iou(box) > 0.95
            and abs(p.start_s - pane["start"]) < 0.3 > abs(p.end_s - pane["end"])
            for p in found
        )
