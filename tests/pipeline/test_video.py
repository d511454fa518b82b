import os
import random
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from reactionnet_pipeline import video
from reactionnet_pipeline.clips import truncation
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.video import View, whole

EVEN = [n / 25 for n in range(50)]
VARYING = list(np.cumsum([0.0] + [0.04, 0.02, 0.1, 0.001, 0.2, 0.033] * 8))


def picture(number, w=64, h=48):
    """The number as eight black or white bars."""
    bits = np.repeat([number >> bit & 1 for bit in range(8)], -(-w // 8))[:w]
    return np.ascontiguousarray(np.broadcast_to(bits[None, :, None] * np.uint8(255), (h, w, 3)).astype(np.uint8))


def number_of(shown):
    w = -(-shown.shape[1] // 8)
    return sum((shown[shown.shape[0] // 2, bit * w + w // 2].mean() > 128) << bit for bit in range(8))


def draw(path, pictures, times, codec="libx264", fmt="yuv420p", options=None, **muxer):
    with av.open(str(path), "w", **muxer) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "10", **(options or {})})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = fmt
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for shown, time in zip(pictures, times, strict=False):
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(path, times=EVEN, **drawing):
    return draw(path, [picture(n) for n in range(len(times))], times, **drawing)


def refusal(path):
    with pytest.raises(SourceError) as caught:
        video.probe(path)
    return caught.value.code


BROUGHT = {
    "a.mp4": {},
    "a.mkv": {},
    "a.ts": {},
    "a.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "a.webm": {"codec": "libvpx"},
}


@pytest.mark.parametrize("times", [EVEN, VARYING, [t + 5 for t in EVEN]], ids=["even", "varying", "late"])
@pytest.mark.parametrize(("name", "drawing"), BROUGHT.items(), ids=BROUGHT)
def test_frames_have_their_numbers_and_times_from_any_start(tmp_path, name, drawing, times):
    if name == "a.avi" and times is VARYING:
        times = EVEN  # an AVI file has one rate
    path = numbered(tmp_path / name, times, **drawing)
    info = video.probe(path)
    if name != "a.avi":  # whose last time stamp the writer repeats
        np.testing.assert_allclose(info.times_s, np.array(times) - times[0], atol=0.0011)
    assert truncation(info) is None
    for start in (0, 7, 10, 23, info.num_frames - 1):
        shown = list(video.read_frames(path, info, start, info.num_frames, lambda _: [whole(info)]))
        assert [frame for frame, _ in shown] == list(range(start, info.num_frames))
        assert [number_of(arrays[0]) for _, arrays in shown] == list(range(start, info.num_frames))
    wanted = [0, 3, 11, 12, 38, info.num_frames - 1]
    sampled = list(video.sample_frames(path, info, wanted, whole(info)))
    assert [(frame, number_of(array)) for frame, array in sampled] == [(n, n) for n in wanted]


@pytest.mark.parametrize(("w", "h"), [(321, 241), (64, 48), (17, 33)])
def test_crops_are_exact_to_the_pixel_whatever_the_size(tmp_path, w, h):
    marked = np.full((h, w, 3), 40, np.uint8)
    marked[7:20, 5:16] = 220
    path = draw(tmp_path / "a.mkv", [marked] * 3, EVEN, codec="libx264rgb", fmt="rgb24", options={"qp": "0"})
    info = video.probe(path)
    assert (info.width, info.height) == (w, h)
    views = [View(x=5, y=7, w=11, h=13, out_w=11, out_h=13), View(x=4, y=6, w=12, h=14, out_w=12, out_h=14, grey=True)]
    ((_, (inside, around)),) = video.read_frames(path, info, 1, 2, lambda _: views)
    assert (inside == 220).all()
    bright = around > 100
    assert bright[1:, 1:].all()
    assert not bright[0].any()
    assert not bright[:, 0].any()


def test_odd_sizes_with_halved_colour_are_whole_to_the_last_column(tmp_path):
    marked = np.full((241, 321, 3), 30, np.uint8)
    marked[-1], marked[:, -1] = 230, 230
    path = draw(tmp_path / "a.avi", [marked] * 2, EVEN, codec="mpeg4", options={"qmin": "1", "qmax": "2"})
    info = video.probe(path)
    right = View(x=319, y=100, w=2, h=100, out_w=2, out_h=100)
    ((_, (full, corner)),) = video.read_frames(path, info, 0, 1, lambda _: [whole(info), right])
    assert full.shape == (241, 321, 3)
    for edge, inside in ((full[-1, 50:200], full[-2, 50:200]), (corner[:, 1], corner[:, 0])):
        assert edge.mean() - inside.mean() > 120


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_rotation_tag_turns_the_picture_upright(tmp_path, degrees):
    upright = np.full((80, 48, 3), 20, np.uint8)
    upright[:20, :12] = (250, 20, 20)  # top left
    stored = np.ascontiguousarray(np.rot90(upright, degrees // 90))
    path = draw(tmp_path / "a.mp4", [stored] * 5, EVEN)
    turn_tag(path, degrees)
    info = video.probe(path)
    assert (info.rotation, info.width, info.height) == (degrees, 48, 80)
    ((_, (shown,)),) = video.read_frames(path, info, 0, 1, lambda _: [whole(info)])
    assert shown.shape == (80, 48, 3)
    assert np.abs(shown[2:16, 2:9].astype(int) - (250, 20, 20)).max() < 40
    assert shown[24:, 16:].max() < 60
    ((_, sampled),) = video.sample_frames(path, info, [3], whole(info))
    assert np.abs(sampled.astype(int) - shown).max() < 40


def turn_tag(path, degrees):
    """Write the display matrix into the track header of an MP4 file."""
    matrices = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (number * 65536 for number in matrices[degrees])
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    values = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


def test_views_may_change_on_the_way_and_scale(tmp_path):
    path = numbered(tmp_path / "a.mp4")
    info = video.probe(path)
    small, right = whole(info, max_side=32), View(x=32, y=0, w=32, h=48, out_w=32, out_h=48)
    shown = dict(
        video.read_frames(path, info, 14, 18, lambda frame: [] if frame == 15 else [small] if frame < 17 else [right])
    )
    assert [[a.shape for a in shown[frame]] for frame in (14, 15, 17)] == [[(24, 32, 3)], [], [(48, 32, 3)]]
    assert shown[17][0][:, 4].mean() > 200  # bar 4 of 17 is white


def test_an_mp4_without_its_index_is_truncated(tmp_path):
    path = numbered(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:-400])
    assert refusal(path) == Code.TRUNCATED


def test_of_a_matroska_file_that_was_cut_off_all_that_is_there_is_read(tmp_path):
    path = numbered(tmp_path / "a.mkv", [n / 25 for n in range(100)], options={"bf": "0"})
    path.write_bytes(path.read_bytes()[:-2000])
    info = video.probe(path)
    shown = list(video.read_frames(path, info, 0, 100, lambda _: [whole(info)]))
    assert 10 < info.num_frames < 100
    assert info.num_frames - 1 <= len(shown) <= info.num_frames
    assert [number_of(arrays[0]) for frame, arrays in shown[:-1]] == list(range(len(shown) - 1))
    assert "the header promises 4.00 s" in truncation(info)


def test_frames_that_do_not_decode_are_missing_and_the_others_keep_their_numbers(tmp_path):
    path = numbered(tmp_path / "a.mkv", options={"bf": "0"})
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][22]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place + 12 : place + size] = b"\xff" * (size - 12)
    path.write_bytes(data)
    info = video.probe(path)
    shown = {
        frame: number_of(arrays[0]) for frame, arrays in video.read_frames(path, info, 0, 50, lambda _: [whole(info)])
    }
    assert all(shown[frame] == frame for frame in [*range(22), *range(30, 50)])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.EMPTY_FILE),
        (b"Good morning, this is a text.\n" * 50, Code.NOT_A_VIDEO),
        (bytes(range(256)) * 20, Code.NOT_A_VIDEO),
        (b"\x1aE\xdf\xa3" + b"\0" * 500, Code.UNREADABLE),
        (b"G" * 2000, Code.UNREADABLE),
    ],
)
def test_what_is_no_video_is_named(tmp_path, data, code):
    (tmp_path / "a.mp4").write_bytes(data)
    assert refusal(tmp_path / "a.mp4") == code


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_is_no_video(tmp_path, kind):
    Image.fromarray(picture(5)).save(tmp_path / "a.mp4", kind)
    assert refusal(tmp_path / "a.mp4") == Code.NOT_A_VIDEO


@pytest.mark.parametrize("name", ["none.mp4", ".", "concat:a.mp4|b.mp4", "http://127.0.0.1/a.mp4"])
def test_what_is_no_regular_file_is_not_fetched(tmp_path, name):
    assert refusal(tmp_path / name) == Code.FETCH_FAILED


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_no_video_not_even_with_a_cover_picture(tmp_path, cover):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame) + sound.encode(None))
        if cover:
            container.mux(art.encode(av.VideoFrame.from_ndarray(picture(3), format="rgb24")) + art.encode(None))
    assert refusal(tmp_path / "a.mp4") == Code.NO_VIDEO


def test_a_stream_that_nothing_decodes_is_unreadable(tmp_path):
    path = numbered(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/ZZZ"))
    assert refusal(path) == Code.UNREADABLE


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{other}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{other}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" mimeType="video/mp2t"><BaseURL>{other}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "address": "http://127.0.0.1/{other}",
    "concat": "concat:{other}|{other}",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ts"])
def test_a_file_that_names_another_is_never_followed(tmp_path, kind, suffix):
    other = numbered(tmp_path / "other.ts")
    os.utime(other, (1, 1))
    path = tmp_path / f"list.{suffix}"
    path.write_text(PLAYLISTS[kind].format(other="other.ts"))
    assert refusal(path) in (Code.NOT_A_VIDEO, Code.UNREADABLE)
    assert other.stat().st_atime == 1


def test_the_trap_is_a_real_one(tmp_path):
    numbered(tmp_path / "other.ts")
    (tmp_path / "list.ffconcat").write_text(PLAYLISTS["ffconcat"].format(other="other.ts"))
    with av.open(str(tmp_path / "list.ffconcat")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 40


@pytest.mark.parametrize("name", BROUGHT)
def test_damage_anywhere_costs_frames_or_the_source_and_never_the_job(tmp_path, name):
    draw_bytes, path = random.Random(name), numbered(tmp_path / name, **BROUGHT[name])
    whole_file, codes = path.read_bytes(), []
    for _ in range(25):
        data = bytearray(whole_file)
        for _ in range(draw_bytes.choice([1, 3, 20])):
            place = draw_bytes.randrange(len(data))
            data[place : place + 4] = draw_bytes.randbytes(4)
        path.write_bytes(data[: draw_bytes.choice([len(data), draw_bytes.randrange(len(data))])])
        try:
            info = video.probe(path)
            views = [whole(info, max_side=64)]
            for start in (0, info.num_frames // 2):
                shown = [
                    frame for frame, _ in video.read_frames(path, info, start, info.num_frames, lambda _, v=views: v)
                ]
                assert shown == sorted(set(shown))
                assert all(start <= frame < info.num_frames for frame in shown)
            codes.append("read")
        except SourceError as error:
            codes.append(error.code)
    assert "read" in codes


def test_a_file_with_a_broken_index_is_read_from_its_beginning(tmp_path):
    joined = b"".join(numbered(tmp_path / "a.ts", [t + start for t in EVEN]).read_bytes() for start in (0, 60))
    (tmp_path / "a.ts").write_bytes(joined)
    info = video.probe(tmp_path / "a.ts")
    shown = [number_of(a[0]) for _, a in video.read_frames(tmp_path / "a.ts", info, 90, 100, lambda _: [whole(info)])]
    assert info.num_frames == 100
    assert shown == list(range(40, 50))
