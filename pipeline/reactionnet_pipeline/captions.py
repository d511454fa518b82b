"""Captions of what is being watched: BLIP on a clip's key frames, by beam search and by nucleus sampling.

Li et al., BLIP, ICML 2022; the ReactionNet paper describes its stimuli with both decodings. The settings are those of
BLIP's own captioning demo. Both decodings share one pass of the image encoder, and both are scored the same way: the mean
log-likelihood of a token under the model. Sampling is seeded by clip and time, frame by frame, so that the text does not
depend on what else is in the batch.

Letters: B key frames of one clip, L tokens, V words of the vocabulary, H height, W width, C colour (RGB).

`python -m reactionnet_pipeline.captions FOLDER [DEVICE]` tries whether a model in a folder can be loaded and run.
"""

import hashlib
import importlib.metadata
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import write_atomic
from reactionnet_datasets.stores import Place, as_place
from reactionnet_pipeline import admitted
from reactionnet_pipeline.cache import cached, fingerprint
from reactionnet_pipeline.cuts import thumbnail
from reactionnet_pipeline.errors import Code, DeadLetter, SourceError
from reactionnet_pipeline.key_frames import Config as KeyFrameConfig
from reactionnet_pipeline.key_frames import choose
from reactionnet_pipeline.model_options import Weights
from reactionnet_pipeline.parts import Part, StagedFiles, part_rows

VERSION = 1
SUFFIX = ".captions.json"
BEAM, NUCLEUS, HUMAN = "beam", "nucleus", "human"
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "simplejpeg")


@dataclass(frozen=True, kw_only=True)
class Config:
    """`device` is torch's; words are counted in tokens. Defaults: BLIP's captioning demo."""

    key_frames: KeyFrameConfig = field(default_factory=KeyFrameConfig)
    num_beams: int = 3
    top_p: float = 0.9
    repetition_penalty: float = 1.1  # of nucleus sampling
    min_tokens: int = 5
    max_tokens: int = 20
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.num_beams < 1 or not 0 < self.top_p <= 1 or not 1 <= self.min_tokens <= self.max_tokens:
            raise ValueError(
                f"num_beams {self.num_beams}, top_p {self.top_p}, min_tokens {self.min_tokens}, max_tokens"
                f" {self.max_tokens}: expected at least one beam, 0 < top_p <= 1, 1 <= min_tokens <= max_tokens"
            )


@dataclass(frozen=True, kw_only=True)
class KeyFrame:
    """A stimulus picture, as JPEG, and when it was shown."""

    t_s: float
    jpeg: bytes


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A clip with its captions on file (`part.late`); a letter where the model failed on it."""

    part: Part
    letter: DeadLetter | None = None


class Captioner:
    """A BLIP that is loaded and ready. ValueError where a folder does not hold a whole one."""

    def __init__(self, path: Path, config: Config):
        import torch

        from reactionnet_datasets import torchvision_on_cpu

        torchvision_on_cpu.ensure()
        from transformers import BlipForConditionalGeneration, BlipProcessor
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(1)
        kind = json.loads((path / "config.json").read_bytes()).get("model_type")
        if kind != "blip":
            raise ValueError(f"{path.name} holds a model of type {kind!r}; captions need a 'blip'")
        self._config = config
        self._processor: Any = BlipProcessor.from_pretrained(path, local_files_only=True)
        load: Any = BlipForConditionalGeneration.from_pretrained
        model, found = load(path, local_files_only=True, output_loading_info=True, dtype=torch.float32)
        # what the file lacks would silently be drawn at random; position ids are counted, not learnt
        if missing := sorted(key for key in found["missing_keys"] if not key.endswith("position_ids")):
            raise ValueError(f"{path.name} lacks {len(missing)} weights of a BLIP, such as {missing[0]}")
        self._model: Any = model.eval().to(config.device)

    def pixels(self, pictures_BHWC: Sequence[np.ndarray]) -> Any:
        """What the image encoder sees: float32 (B, 3, side, side), normalised as the model's own processor does."""
        batch = self._processor.image_processor(images=list(pictures_BHWC), return_tensors="pt")
        return batch["pixel_values"].to(self._config.device)

    def caption(self, pictures_BHWC: Sequence[np.ndarray], seeds: Sequence[int]) -> list[dict[str, tuple[str, float]]]:
        """For each picture its text and score by decoding. SourceError(MODEL_FAILED) where no word comes out."""
        import torch

        with torch.inference_mode():
            embeds = self._model.vision_model(pixel_values=self.pixels(pictures_BHWC))[0]
            drawn = {BEAM: self._decode(embeds, {"num_beams": self._config.num_beams})}
            drawn[NUCLEUS] = self._decode(embeds, self._sampling(seeds))
            scored = {name: self._scored(tokens, embeds) for name, tokens in drawn.items()}
        return [{name: scored[name][row] for name in scored} for row in range(len(pictures_BHWC))]

    def _sampling(self, seeds: Sequence[int]) -> dict[str, Any]:
        from transformers import LogitsProcessorList, TopPLogitsWarper

        draws = [TopPLogitsWarper(top_p=self._config.top_p), _SeededDraw(seeds)]
        return {"repetition_penalty": self._config.repetition_penalty, "logits_processor": LogitsProcessorList(draws)}

    def _decode(self, embeds: Any, options: Mapping[str, Any]) -> Any:
        """Token ids (B, L), the first of them the start of the text. The decoder alone: the pictures are encoded once."""
        import torch

        text, special = self._model.config.text_config, self._processor.tokenizer.all_special_ids
        return self._model.text_decoder.generate(
            input_ids=torch.full((len(embeds), 1), text.bos_token_id, device=embeds.device),
            encoder_hidden_states=embeds,
            encoder_attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            eos_token_id=text.sep_token_id,
            pad_token_id=text.pad_token_id,
            min_new_tokens=self._config.min_tokens,
            max_new_tokens=self._config.max_tokens,
            suppress_tokens=sorted(set(special) - {text.sep_token_id}),  # no text holds them, so no caption does
            do_sample=False,
            **options,
        )

    def _scored(self, tokens_BL: Any, embeds: Any) -> list[tuple[str, float]]:
        import torch

        text = self._model.config.text_config
        logits_BLV = self._model.text_decoder(
            input_ids=tokens_BL[:, :-1],
            encoder_hidden_states=embeds,
            encoder_attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
        ).logits
        said_BL = tokens_BL[:, 1:]
        each_BL = logits_BLV.float().log_softmax(-1).gather(-1, said_BL[..., None])[..., 0]
        ends_BL = (said_BL == text.sep_token_id).cumsum(1)
        counted_BL = (ends_BL - (said_BL == text.sep_token_id).long()) == 0  # up to the first end, that included
        scores = (each_BL * counted_BL).sum(1) / counted_BL.sum(1)
        found = []
        for row, score in zip(tokens_BL, scores.tolist(), strict=True):
            words = self._processor.tokenizer.decode(row, skip_special_tokens=True).strip()
            if not words or not math.isfinite(score):
                raise SourceError(Code.MODEL_FAILED, f"the caption model gave {words!r} with score {score}")
            found.append((words, round(score, 4)))
        return found


class _SeededDraw:
    """Turns the best token into a drawn one: the largest of log-likelihood plus Gumbel noise is a sample of the softmax.

    Each row has a generator of its own, which transformers' sampling cannot have.
    """

    def __init__(self, seeds: Sequence[int]):
        import torch

        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores_BV: Any) -> Any:
        import torch

        uniform = torch.stack([torch.rand(scores_BV.shape[1], generator=one) for one in self._generators])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores_BV.log_softmax(-1) + noise.to(scores_BV.device)


def seed_of(clip_id: str, t_s: float) -> int:
    """The seed of what is drawn for a picture."""
    return int.from_bytes(hashlib.sha256(f"{clip_id}:{t_s:.6f}".encode()).digest()[:8]) >> 1


def describe(clip_id: str, frames: Sequence[KeyFrame], captioner: Captioner, model: str) -> list[dict[str, Any]]:
    """Rows of the captions of one clip, in time order, without the columns that name it."""
    pictures = [simplejpeg.decode_jpeg(frame.jpeg, colorspace="RGB") for frame in frames]
    texts = captioner.caption(pictures, [seed_of(clip_id, frame.t_s) for frame in frames])
    return [
        {"t_s": frame.t_s, "decoding": decoding, "text": text[decoding][0], "score": text[decoding][1], "model": model}
        for frame, text in zip(frames, texts, strict=True)
        for decoding in (BEAM, NUCLEUS)
    ]


def stimulus_frames(part: Part, config: KeyFrameConfig) -> list[KeyFrame]:
    """The key frames of a staged clip; none where nothing is shown beside the face."""
    shown, cuts = _shown(part)
    places = {row["frame"]: place for place, row in enumerate(shown)}
    with StagedFiles(as_place(part.folder)) as read:
        chosen = choose(
            [row["t_s"] for row in shown],
            [places[frame] for frame in cuts if frame in places],
            lambda place: thumbnail(simplejpeg.decode_jpeg(read(shown[place]), colorspace="GRAY")[..., 0]),
            config,
        )
        return [KeyFrame(t_s=shown[place]["t_s"], jpeg=read(shown[place])) for place in chosen]


def _shown(part: Part) -> tuple[list[dict[str, Any]], set[int]]:
    """Frame, time and place in the staged files of each stimulus picture; and the frames at which its shots begin."""
    chunks = json.loads((as_place(part.folder) / part.index).with_suffix(".facts.json").read_bytes())["chunks"]
    rows, cuts = [], set()
    for chunk in chunks.values():
        cuts |= set(chunk["cuts"].get("stimulus", ()))
    for row in part_rows(part):
        number, _, kind = row["suffix"].partition(".")
        if kind == "stimulus.jpg":
            chunk = chunks[row["key"]]
            rows.append({**row, "frame": chunk["frames"][int(number)], "t_s": chunk["t_s"][int(number)]})
    return rows, cuts


@dataclass(frozen=True, kw_only=True)
class CaptionClips:
    """The stage: `Part` in, `Captioned` out. `work` is the work folder."""

    weights: Weights
    config: Config
    work: str

    def load(self) -> Captioner:
        """Called in the worker, once a process."""
        return Captioner(Path(self.weights.path), self.config)

    def run(self, part: Part, model: Callable[[], Captioner]) -> Captioned:
        """Captions of one clip, from the work folder where they are there. A clip the model fails on stays without."""
        try:
            late = self._captions(part, model)
        except SourceError as error:
            return Captioned(part=part, letter=self._letter(part, error))
        return Captioned(part=replace(part, late=(*part.late, *late)))

    def num_bytes(self, part: Part) -> int:
        return part.num_bytes

    def _captions(self, part: Part, model: Callable[[], Captioner]) -> tuple[str, ...]:
        frames = stimulus_frames(part, self.config.key_frames)
        if not frames:
            return ()
        name = f"{self.weights.name}@{self.weights.digest[:12]}"
        key = fingerprint(
            stage="captions", version=VERSION, config=self.config, model=name, clip=part.clip_id,
            pictures=[[frame.t_s, hashlib.sha256(frame.jpeg).hexdigest()] for frame in frames],
            libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        )  # fmt: skip

        def compute(stem: Place) -> dict[str, str]:
            file = stem.name + SUFFIX
            write_atomic(stem.with_name(file), canonical_json(describe(part.clip_id, frames, model(), name)))
            return {"file": file}

        return (f"captions/{cached(as_place(self.work), 'captions', part.clip_id, key, compute)['file']}",)

    def _letter(self, part: Part, error: SourceError) -> DeadLetter:
        facts = json.loads((as_place(part.folder) / part.index).with_suffix(".facts.json").read_bytes())
        times = [t_s for chunk in facts["chunks"].values() for t_s in chunk["t_s"]]
        video_id = facts["clip"]["video_id"]
        return DeadLetter(
            video_id=video_id,
            line=admitted.find_row(as_place(self.work), video_id)["line"],
            stage="captions",
            code=error.code,
            message=f"no caption for clip {part.clip_id}: {error.message}",
            retryable=True,
            lost_start_s=min(times),
            lost_end_s=max(times),
            kept=True,
        )


def captions_of(part: Part) -> Iterator[dict[str, Any]]:
    """What the caption stage left on file for a clip."""
    for late in part.late:
        if late.endswith(SUFFIX):
            yield from json.loads((as_place(part.folder) / late).read_bytes())


def try_out(path: Path, device: str = "cpu") -> None:
    """Load a model and caption one grey picture, or raise what is wrong with it."""
    Captioner(path, Config(max_tokens=6, device=device)).caption([np.full((64, 64, 3), 127, np.uint8)], [0])


if __name__ == "__main__":
    try_out(Path(sys.argv[1]), *sys.argv[2:])
