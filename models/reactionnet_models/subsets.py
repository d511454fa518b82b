"""`reactionnet-subsets SHARDS OUT`: divide the training videos by background, one text file of ids a subset.

ABAW6 trains one fusion model on each subset (`reactionnet-train ... --videos OUT/subset1.txt`) and lets them vote
(`reactionnet-challenge`). It says "by background characteristics" alone: ours is k-means with k = 4 on the mean CLIP
embedding of a video's pictures, which should be whole frames, not crops. `--encoder colours` needs no weights: a histogram.
Letters: T pictures of a video, F features.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from reactionnet_datasets import Augment, ShardDataset
from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_datasets.shards import write_atomic
from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.captions import CLIP
from reactionnet_models.smoothing import partition_by_scene

# CLIP's own, as published with its weights
CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BINS = 4  # of each colour
app = make_app()


def colours(frames_TCHW: Tensor) -> Tensor:
    """Joint histogram of the three colours, (T, 64), summing to 1."""
    level = (frames_TCHW.long() * BINS) // 256
    place = (level[:, 0] * BINS + level[:, 1]) * BINS + level[:, 2]
    return torch.nn.functional.one_hot(place.flatten(1), BINS**3).float().mean(1)


def load_clip(source: str) -> Any:
    """CLIP's image tower. ValueError where the weights cannot be had."""
    ensure()
    from transformers import CLIPVisionModelWithProjection

    try:
        return CLIPVisionModelWithProjection.from_pretrained(source).eval()
    except OSError as error:
        raise ValueError(
            f"the image encoder {source!r} cannot be had: name a folder, or take --encoder colours"
        ) from error


@torch.no_grad()
def embed_videos(shards: str, encoder: str, split: str, num_frames: int = 8) -> dict[str, np.ndarray]:
    """The mean embedding (F) of pictures spread over each clip of a video. ValueError where nothing can be read."""
    tower = None if encoder == "colours" else load_clip(encoder)
    side = 64 if tower is None else tower.config.image_size
    dataset = ShardDataset(
        shards, split=split, fields=("frames", "meta"), num_frames=num_frames, batch_size=4,
        augment=Augment(resize=side, crop=side, random=False),
    )  # fmt: skip
    found: dict[str, list[Tensor]] = {}
    for items in dataset:
        for frames, mask, meta in zip(items["frames"], items["frame_mask"], items["meta"], strict=True):
            found.setdefault(meta["video_id"], []).append(_embed(frames[mask], tower).mean(0))
    return {video: torch.stack(parts).mean(0).numpy() for video, parts in found.items()}


def _embed(frames_TCHW: Tensor, tower: Any) -> Tensor:
    if tower is None:
        return colours(frames_TCHW)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_DEVIATION))
    return tower(pixel_values=(frames_TCHW.float() / 255 - mean) / deviation).image_embeds


@app.command()
def run(
    shards: Annotated[str, typer.Argument(help="Shards of the videos, whole frames if they can be had.")],
    out: Annotated[Path, typer.Argument(help="Folder to write subset1.txt ... into.")],
    num: Annotated[int, typer.Option(min=2, help="Subsets.")] = 4,
    encoder: Annotated[str, typer.Option(help="CLIP by name or folder, or colours.")] = CLIP,
    split: Annotated[str, typer.Option(help="Which split is divided.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Of k-means.")] = 0,
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:
    """Divide videos by what their background looks like."""
    set_log_level(log_level)
    with refusals():
        scenes = embed_videos(shards, encoder, split)
        videos = sorted(scenes)
        subset_S = partition_by_scene(np.stack([scenes[video] for video in videos]), num, seed)
        out.mkdir(parents=True, exist_ok=True)
        for place in range(num):
            chosen = [video for video, subset in zip(videos, subset_S, strict=True) if subset == place]
            write_atomic(out / f"subset{place + 1}.txt", "".join(f"{video}\n" for video in chosen).encode())
            if not quiet:
                console.print(f"{out / f'subset{place + 1}.txt'}: {len(chosen)} videos")


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
