"""What captions and demographics cost: full-size architectures with random weights, one thread, one by one and in a batch.

    python tests/benchmarks/understanding.py                      # both stages, on this machine's processor
    python tests/benchmarks/understanding.py --stage captions --device cuda

Random weights cost what real ones cost, or a little more: a caption goes on to its full length, since nothing ever ends
it. Each stage runs in a process of its own, through the code that the build runs. Times are processor seconds of one
thread (seconds on the clock for another device), one by one and batched in turn, the median of the rounds.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np

from reactionnet_pipeline.captions import Captioner, Config
from reactionnet_pipeline.demographics import AttributeNets
from reactionnet_pipeline.model_options import DEEPFACE_FOLDER

KEY_FRAMES, CROPS = 8, 16


def blip_base(folder: Path) -> Path:
    """A folder as of Salesforce/blip-image-captioning-base: ViT-B/16 at 384 px, 12 layers of text, 30,524 words."""
    import torch

    from reactionnet_datasets import torchvision_on_cpu

    torchvision_on_cpu.ensure()
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor
    from transformers.models.blip import BlipProcessor

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + [f"word{number}" for number in range(30_523 - len(special))]
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    text = {
        "vocab_size": len(tokenizer),
        "bos_token_id": 30_522,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    config = BlipConfig(text_config=text, vision_config={"image_size": 384})
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    processor = BlipImageProcessor(size={"height": 384, "width": 384})
    BlipProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def deepface_nets(home: Path) -> Path:
    """DeepFace's four nets as PyTorch weights: three VGG-Face trunks and the small expression net."""
    import torch
    from deepface.models.demography.pytorch import Age, Emotion, Gender, Race

    folder = home / DEEPFACE_FOLDER
    folder.mkdir(parents=True)
    nets = {
        "age_model_weights": Age.base_model,
        "gender_model_weights": Gender.base_model,
        "race_model_single_batch": Race.base_model,
        "facial_expression_model_weights": Emotion.EmotionModel,
    }
    torch.manual_seed(0)
    for name, build in nets.items():
        torch.save(build().state_dict(), folder / f"{name}.pth")
    return folder


def captions(folder: Path, device: str, rounds: int) -> dict[str, float]:
    """Milliseconds a key frame and clip."""
    began = time.perf_counter()
    captioner = Captioner(folder / "blip", Config(device=device))
    load_s = time.perf_counter() - began
    pictures = list(np.random.default_rng(0).integers(0, 255, (KEY_FRAMES, 144, 256, 3), np.uint8))

    def one_by_one() -> None:
        for picture in pictures:
            captioner.caption([picture], [1])

    return {
        "load_s": load_s,
        **_alternated(one_by_one, lambda: captioner.caption(pictures, [1] * KEY_FRAMES), KEY_FRAMES, device, rounds),
    }


def demographics(folder: Path, device: str, rounds: int) -> dict[str, float]:
    """Milliseconds a crop and subject."""
    weights = folder / DEEPFACE_FOLDER
    began = time.perf_counter()
    nets = AttributeNets(weights, "pytorch")
    load_s = time.perf_counter() - began
    crops = list(np.random.default_rng(0).integers(0, 255, (CROPS, 120, 100, 3), np.uint8))

    def one_by_one() -> None:
        for crop in crops:
            nets.predict([crop])

    return {"load_s": load_s, **_alternated(one_by_one, lambda: nets.predict(crops), CROPS, device, rounds)}


def _alternated(
    single: Callable[[], object], batched: Callable[[], object], count: int, device: str, rounds: int
) -> dict[str, float]:
    clock = time.process_time if device == "cpu" else time.perf_counter
    batched()  # the first call loads kernels and grows buffers
    times: dict[str, list[float]] = {"single_ms": [], "batched_ms": []}
    for _ in range(rounds):
        for name, run in (("single_ms", single), ("batched_ms", batched)):
            began = clock()
            run()
            times[name].append((clock() - began) * 1000 / count)
    ratios = [a / b for a, b in zip(times["single_ms"], times["batched_ms"], strict=True)]
    return {
        **{name: statistics.median(values) for name, values in times.items()},
        "gain": statistics.median(ratios),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


STAGES = {
    "captions": (captions, KEY_FRAMES, "key frame", "clip"),
    "demographics": (demographics, CROPS, "crop", "subject"),
}


def _prepare(stage: str, folder: Path) -> None:
    """Files first, in another process, so that drawing weights is not measured."""
    if stage == "captions":
        blip_base(folder / "blip")
    else:
        deepface_nets(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=STAGES, action="append")
    parser.add_argument("--device", default="cpu", help="torch's; demographics go where DeepFace puts them")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    for stage in chosen.stage or STAGES:
        run, count, one, whole = STAGES[stage]
        with tempfile.TemporaryDirectory() as folder:
            for function, arguments in (
                (_prepare, (stage, Path(folder))),
                (run, (Path(folder), chosen.device, chosen.rounds)),
            ):
                with spawn.Pool(1) as pool:
                    found = pool.apply(function, arguments)
        print(
            f"{stage}: {found['batched_ms']:.0f} ms a {one} in a batch of {count} ({found['batched_ms'] * count / 1000:.2f} s"
            f" a {whole}), {found['single_ms']:.0f} ms one by one: batching gains {found['gain']:.2f} x;"
            f" loads in {found['load_s']:.1f} s; peak {found['peak_mb']:,.0f} MB"
        )


if __name__ == "__main__":
    main()
