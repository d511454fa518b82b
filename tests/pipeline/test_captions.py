"""Captions by the real code on a tiny real BLIP: what it says means nothing, that it says it again does."""

import json
import subprocess
import sys

import apache_beam as beam
import numpy as np
import pytest
import simplejpeg
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import Record
from reactionnet_pipeline import admitted, captions
from reactionnet_pipeline.captions import BEAM, NUCLEUS, CaptionClips, Captioner, Config, captions_of, seed_of
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.inference import OneByOne
from reactionnet_pipeline.manifest import Row
from reactionnet_pipeline.model_options import Weights
from reactionnet_pipeline.parts import stage_part


@pytest.fixture(scope="module")
def captioner(blip):
    return Captioner(blip, Config())


def pictures(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 255, (count, 48, 80, 3), np.uint8))


def test_both_decodings_speak_and_differ(captioner):
    found = captioner.caption(pictures(4), [1, 2, 3, 4])
    assert all(one[decoding][0].strip() for one in found for decoding in (BEAM, NUCLEUS))
    assert any(one[BEAM][0] != one[NUCLEUS][0] for one in found)
    assert all(-20 < one[decoding][1] < 0 for one in found for decoding in (BEAM, NUCLEUS))
    assert len({one[NUCLEUS][0] for one in found}) == 4


def test_another_picture_is_another_prompt_tensor(captioner):
    one, other = captioner.pixels(pictures(2))
    assert one.shape == (3, 64, 64)
    assert not np.allclose(one, other)


def test_a_picture_gets_the_same_text_whatever_else_is_in_the_batch(captioner):
    together = captioner.caption(pictures(3), [7, 8, 9])
    for number, picture in enumerate(pictures(3)):
        alone = captioner.caption([picture], [7 + number])[0]
        assert {name: text for name, (text, _) in alone.items()} == {
            name: text for name, (text, _) in together[number].items()
        }


def test_another_seed_draws_another_text_and_leaves_beam_search_alone(captioner):
    one, other = (captioner.caption(pictures(1), [seed])[0] for seed in (1, 2))
    assert one[BEAM] == other[BEAM]
    assert one[NUCLEUS][0] != other[NUCLEUS][0]
    assert seed_of("clip", 1.0) != seed_of("clip", 2.0) != seed_of("other", 2.0)


@pytest.mark.parametrize("ended", [True, False])
def test_the_score_is_the_mean_log_likelihood_of_a_token(captioner, ended):
    """By hand: feed a text back, a token at a time; its end counts where the model ended it."""
    import torch

    picture, tokenizer, model = pictures(1), captioner._processor.tokenizer, captioner._model
    found = captioner.caption(picture * 16, range(16))
    texts = [one[NUCLEUS] for one in found]
    tokens = [tokenizer(text, add_special_tokens=False).input_ids for text, _ in texts]
    row = next(n for n, one in enumerate(tokens) if (len(one) < Config().max_tokens) == ended)
    config = model.config.text_config
    said = [config.bos_token_id, *tokens[row], *([config.sep_token_id] if ended else [])]
    each = []
    with torch.inference_mode():
        embeds = model.vision_model(pixel_values=captioner.pixels(picture))[0]
        for place in range(1, len(said)):
            logits = model.text_decoder(input_ids=torch.tensor([said[:place]]), encoder_hidden_states=embeds).logits
            each.append(logits[0, -1].log_softmax(-1)[said[place]].item())
    assert texts[row][1] == pytest.approx(np.mean(each), abs=2e-4)


def test_seeded_draws_follow_the_distribution():
    import torch

    shares = torch.tensor([0.6, 0.3, 0.1, 0.0])
    drawn = captions._SeededDraw(range(4000))(None, shares.log().expand(4000, 4))
    counts = torch.bincount(drawn.argmax(-1), minlength=4) / 4000
    assert torch.allclose(counts, shares, atol=0.03)


def test_a_folder_that_holds_no_whole_blip_is_told_apart(blip, tmp_path):
    def copy(name):
        folder = tmp_path / name
        folder.mkdir()
        for path in blip.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        return folder

    other = copy("other")
    (other / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ValueError, match="holds a model of type 'clip'"):
        Captioner(other, Config())

    from safetensors.numpy import load_file, save_file

    lacking = copy("lacking")
    tensors = load_file(lacking / "model.safetensors")
    tensors.pop(next(name for name in tensors if "encoder.layers.0" in name))
    save_file(tensors, lacking / "model.safetensors")
    with pytest.raises(ValueError, match="lacks 1 weights of a BLIP"):
        Captioner(lacking, Config())

    cut = copy("cut")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    command = [sys.executable, "-m", "reactionnet_pipeline.captions", str(cut)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Safetensor" in done.stderr.splitlines()[-1]


def jpeg(grey):
    picture = np.random.default_rng(grey).integers(0, 40, (48, 64, 3), np.uint8) + np.uint8(grey)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=90)


def staged_clip(work, video_id, num_frames=20, cut=10, shown=True):
    """A clip as barrier 1 leaves it: 10 frames/s, dark until the cut, then bright."""
    key = f"{video_id}-0-000000"
    members = [("000.reaction.jpg", jpeg(99))]
    if shown:
        members += [(f"{n:03d}.stimulus.jpg", jpeg(10 if n < cut else 200)) for n in range(num_frames)]
    part = stage_part(work, f"clips/{key}", key, "train", [Record(key=key, members=tuple(members))])
    chunk = {"frames": list(range(num_frames)), "t_s": [n / 10 for n in range(num_frames)], "cuts": {"stimulus": [cut]}}
    facts = {"clip": {"video_id": video_id, "clip_id": key}, "chunks": {key: chunk}}
    (work / "clips" / f"{key}.facts.json").write_bytes(canonical_json(facts))
    return part


@pytest.fixture
def work(tmp_path):
    (tmp_path / "clips").mkdir()
    rows = [Row(line=n, video_id=f"v{n}", uri="u", location="/u", license="CC0-1.0") for n in (1, 2)]
    admitted.write_rows(tmp_path, rows, {"v1": "train", "v2": "train"})
    return tmp_path


def stage_of(blip, work, **config):
    weights = Weights(name="tiny", path=str(blip), digest="ab" * 32)
    return CaptionClips(weights=weights, config=Config(**config), work=str(work))


def test_clips_are_captioned_through_run_inference_at_their_own_key_frames(blip, work):
    parts = [staged_clip(work, "v1"), staged_clip(work, "v2", shown=False)]

    def check(found):
        by_clip = {one.part.clip_id: one for one in found}
        rows = list(captions_of(by_clip["v1-0-000000"].part))
        assert [(row["t_s"], row["decoding"]) for row in rows] == [
            (0.0, "beam"), (0.0, "nucleus"), (1.4, "beam"), (1.4, "nucleus"),
        ]  # fmt: skip
        assert all(row["text"] and row["model"] == "tiny@abababababab" for row in rows)
        assert not list(captions_of(by_clip["v2-0-000000"].part))
        assert not [one.letter for one in found if one.letter]

    with beam.Pipeline() as pipeline:
        assert_that(pipeline | beam.Create(parts) | RunInference(OneByOne(stage_of(blip, work))), check)


def test_a_rerun_loads_no_model_and_another_setting_or_model_captions_anew(blip, work):
    part, stage = staged_clip(work, "v1"), stage_of(blip, work)
    loads = []

    def load():
        loads.append(1)
        return stage.load()

    first = stage.run(part, load)
    assert stage.run(part, load) == first
    assert len(loads) == 1
    stage_of(blip, work, top_p=0.5).run(part, load)
    CaptionClips(weights=Weights(name="tiny", path=str(blip), digest="cd" * 32), config=Config(), work=str(work)).run(
        part, load
    )
    assert len(loads) == 3


def test_a_clip_that_the_model_fails_on_is_kept_and_named(blip, work):
    part = staged_clip(work, "v2")

    class Dumb:
        def caption(self, pictures_BHWC, seeds):
            raise SourceError(Code.MODEL_FAILED, "no word")

    found = stage_of(blip, work).run(part, Dumb)
    assert found.part == part
    assert (found.letter.code, found.letter.kept, found.letter.line) == (Code.MODEL_FAILED, True, 2)
    assert (found.letter.lost_start_s, found.letter.lost_end_s) == (0.0, 1.9)
    assert not list(work.glob("captions/*"))  # trying again may help
