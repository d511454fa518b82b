"""Decoding pictures, and the memory that they are decoded into."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from drawn_shards import clip_records
from reactionnet_datasets import Augment, ShardDataset
from reactionnet_datasets.augment import View
from reactionnet_datasets.buffers import Pool
from reactionnet_datasets.pictures import decode, picture_size
from reactionnet_datasets.sample import Chunk
from reactionnet_datasets.shards import Record, write_manifest, write_shard
from reactionnet_datasets.storage import ShardError
from reactionnet_datasets.tabulate import tabulate

RAMP = np.stack(np.broadcast_arrays(np.arange(64)[:, None] * 4, np.arange(48)[None] * 5, np.uint8(90)), -1).astype(
    np.uint8
)


def spelled(kind, picture=RAMP):
    if kind == "jpg":
        return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=98, colorsubsampling="444")
    if kind == "padded.jpg":  # bytes before the end marker, as some tools leave
        return spelled("jpg", picture)[:-2] + bytes(9) + b"\xff\xd9"
    file = io.BytesIO()
    mode, form = {
        "png": ("RGB", "PNG"),
        "bmp": ("RGB", "BMP"),
        "cmyk.jpg": ("CMYK", "JPEG"),
        "grey.jpg": ("L", "JPEG"),
    }[kind]
    Image.fromarray(picture).convert(mode).save(file, format=form, quality=98)
    return file.getvalue()


def shown(kind, view, picture=RAMP):
    data, name = spelled(kind, picture), f"key.000.reaction.{kind.rpartition('.')[2]}".encode()
    out = np.zeros((view.out_h, view.out_w, 3), np.uint8)
    decode(memoryview(data), name, picture_size(data, name), view, out)
    return out.astype(int)


WHOLE = View(x=0, y=0, w=48, h=64, out_w=48, out_h=64)


@pytest.mark.parametrize("kind", ["jpg", "padded.jpg", "png", "bmp", "cmyk.jpg"])
def test_formats_give_the_same_picture(kind):
    assert np.abs(shown(kind, WHOLE) - RAMP).mean() < 3


def test_grey_pictures_come_in_three_channels():
    out = shown("grey.jpg", WHOLE)
    assert np.ptp(out, axis=-1).max() == 0
    assert np.abs(out[..., 0] - np.asarray(Image.fromarray(RAMP).convert("L")).astype(int)).mean() < 2


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_small_views_are_decoded_small_and_look_the_same(factor):
    view = View(x=0, y=0, w=48, h=64, out_w=48 // factor, out_h=64 // factor)
    expected = np.asarray(Image.fromarray(RAMP).resize((view.out_w, view.out_h), Image.Resampling.BOX)).astype(int)
    assert np.abs(shown("jpg", view) - expected).mean() < 3


def test_crops_and_mirrors_are_cut_from_the_picture():
    view = View(x=8, y=16, w=32, h=32, out_w=32, out_h=32, mirrored=True)
    assert np.abs(shown("jpg", view) - RAMP[16:48, 8:40][:, ::-1]).mean() < 2


def test_a_picture_of_another_size_than_its_neighbours_is_told_with_the_remedy():
    with pytest.raises(ValueError, match=r"has 48 x 64 pixels, others of its batch 20 x 30: .*augment=Augment"):
        decode(spelled("jpg"), b"key.000.reaction.jpg", (30, 20), WHOLE, np.zeros((64, 48, 3), np.uint8))


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_picture_cut_off_is_named(kind):
    data, name = spelled(kind), f"key.000.reaction.{kind}".encode()
    with pytest.raises(ShardError, match=rf"key\.000\.reaction\.{kind} is damaged"):
        decode(data[: len(data) // 2], name, (64, 48), WHOLE, np.zeros((64, 48, 3), np.uint8))


def test_memory_is_used_again_only_when_nobody_looks_at_it():
    pool = Pool(keep=2)
    first = pool.empty((4, 1000))
    address = first.data_ptr()
    view = first[1:].permute(1, 0)
    first.fill_(7)
    del first
    second = pool.empty((4, 1000))
    second.fill_(9)
    assert second.data_ptr() != address
    assert (view == 7).all()
    del view
    third = pool.empty((2, 1000))
    assert third.data_ptr() == address


def test_the_pool_keeps_no_more_than_it_should():
    pool = Pool(keep=2)
    held = [pool.empty((1 << 16,)) for _ in range(5)]
    del held
    assert len(pool._free) == 2


def test_pictures_of_several_sizes_need_one_size_to_be_named(tmp_path):
    records = [*clip_records(0, 2, side=32), *clip_records(1, 2, side=48)]
    assert [Chunk.from_json(record.members[0][1]).clip_num_frames for record in records] == [2, 2]
    info = write_shard(tmp_path, "train-00000", [Record(key=r.key, members=r.members) for r in records])
    parts = tabulate(tmp_path, info, ())
    tables = {"frames": [parts.frames], "windows": [parts.windows]}
    write_manifest(tmp_path, {"splits": {"train": {"shards": [vars(info)], "tables": tables}}})
    assert [item["frames"].shape[-1] for item in ShardDataset(tmp_path)] == [32, 48]
    with pytest.raises(ValueError, match="bring them to one size by augment"):
        list(ShardDataset(tmp_path, window=1, batch_size=4))
    (batch,) = ShardDataset(tmp_path, window=1, batch_size=4, augment=Augment(resize=24, crop=20, random=False))
    assert batch["frames"].shape == (4, 1, 3, 20, 20)


def test_a_crop_from_the_upper_left_corner_is_still_a_crop():
    corner = View(x=0, y=0, w=24, h=24, out_w=24, out_h=24)
    assert np.abs(shown("jpg", corner) - RAMP[:24, :24]).max() <= 4
