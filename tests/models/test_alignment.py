"""Faces that the models align by their landmarks, where stored pictures show more than a face."""

from dataclasses import replace

import pytest
import torch

from drawn_landmarks import face
from reactionnet_models import aar, abaw6, alignment, cage, drr, eri

CONFIGS = {
    "cage": (cage, replace(cage.PRESETS["tiny"], aligned=36)),
    "drr": (drr, replace(drr.PRESETS["tiny_um"], aligned=36)),
    "eri": (eri, replace(eri.PRESETS["tiny_video"], aligned=36)),
    "abaw6": (abaw6, replace(abaw6.PRESETS["tiny_au"], aligned=36, sound="none")),
}


def items(shift: int = 0) -> dict[str, torch.Tensor]:
    """Two clips of three frames; the whole picture moved by `shift`, and the last frame without landmarks."""
    torch.manual_seed(0)
    wide = torch.randint(256, (2, 3, 3, 260, 260), dtype=torch.uint8)
    landmarks = face().expand(2, 3, 49, 2) + torch.tensor(20.0 - shift)
    landmarks = torch.where(
        torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.bool)[..., None, None], landmarks, torch.nan
    )
    return {
        "frames": wide[..., shift : shift + 230, shift : shift + 230], "landmarks49": landmarks,
        "frame_mask": torch.tensor([[True, True, False], [True, True, True]]),
    }  # fmt: skip


def pictures(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    name = next(name for name in ("image_BCHW", "reaction_BTCHW", "image_BTCHW") if name in batch)
    return batch[name].reshape(6, 3, 32, 32)


@pytest.mark.parametrize("name", CONFIGS)
def test_faces_lie_at_one_place_wherever_the_picture_has_them(name):
    module, config = CONFIGS[name]
    batch, moved = (module.prepare(items(shift), config) for shift in (0, 17))
    assert batch["aligned_BT"].tolist() == [[True, True, False], [True, True, False]]
    seen = batch["aligned_BT"].flatten()
    torch.testing.assert_close(pictures(batch)[seen], pictures(moved)[seen], atol=1e-3, rtol=0)
    plain = alignment.faces(items(), 36, 32, None).colours().flatten(0, 1)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(
        pictures(batch)[seen], ((plain - mean[:, None, None]) / deviation[:, None, None])[seen], atol=1e-5, rtol=0
    )
    assert module.view(config, True) is None


def test_without_draws_the_middle_is_shown_in_its_own_colours():
    given = items()
    whole = alignment.faces(given, 36, 36, None).colours()
    torch.testing.assert_close(
        alignment.faces(given, 36, 32, None).colours(), whole[..., 2:34, 2:34], atol=1e-4, rtol=0
    )
    given["frames"][:] = 255
    white = alignment.faces(given, 36, 32, None).colours()[0, 0, :, 10:20, 10:20]
    # a resampling's weights sum to nearly 1
    torch.testing.assert_close(white, torch.ones_like(white), atol=1e-6, rtol=0)


def test_presets_that_align_read_landmarks_and_others_do_not():
    for module in (cage, drr, eri, abaw6):
        for name, recipe in module.RECIPES.items():
            wanted = getattr(module.PRESETS[name], "aligned", None) is not None
            shown = {"frames"} <= {*recipe.fields}
            assert ("landmarks49" in recipe.fields) == (wanted and shown), name
    assert "landmarks49" in cage.RECIPES["small_combined"].fields


@pytest.mark.parametrize("name", CONFIGS)
def test_crops_and_mirrors_are_drawn_for_each_clip(name):
    module, config = CONFIGS[name]
    config = replace(config, augment=False) if name == "cage" else config
    given = items()
    given["frames"] = given["frames"][:, :1].expand(-1, 3, -1, -1, -1)
    drawn = [pictures(module.prepare(given, config, torch.Generator().manual_seed(seed))) for seed in range(6)]
    assert all(torch.equal(one[0], one[1]) and torch.equal(one[3], one[4]) for one in drawn)
    assert len({float(one[0].sum()) for one in drawn}) > 1


def test_labels_of_faces_without_landmarks_are_masked():
    given = items()
    value, mask = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool)
    given["labels"] = {"expression": value, "expression_mask": mask}
    given["labels"] |= {
        name: part for au in (1, 12, 25) for name, part in ((f"au_occ_{au}", value), (f"au_occ_{au}_mask", mask))
    }
    given["labels"] |= {"valence": value.float(), "valence_mask": mask, "arousal": value.float(), "arousal_mask": mask}
    batch = cage.prepare(given, CONFIGS["cage"][1])
    assert batch["expression_B"].tolist() == [1, 1, -100, 1, 1, -100]
    assert batch["affect_mask_BD"][:, 0].tolist() == [True, True, False, True, True, False]
    batch = drr.prepare(given, replace(CONFIGS["drr"][1], aus=(1, 12, 25)))
    assert batch["au_mask_BTM"][..., 0].tolist() == [[True, True, False], [True, True, False]]


def test_items_without_landmarks_are_refused():
    given = items()
    del given["landmarks49"]
    for module, config in (*CONFIGS.values(), (aar, aar.PRESETS["tiny"])):
        with pytest.raises(ValueError, match="without landmarks49 cannot be aligned: take a preset that aligns"):
            module.prepare(given, config)


@pytest.mark.parametrize("name", ["cage", "drr", "eri", "abaw6"])
def test_a_face_smaller_than_its_crop_is_refused(name):
    with pytest.raises(ValueError, match="aligned=31: a crop of 32 does not fit"):
        replace(CONFIGS[name][1], aligned=31)
