"""Captions as numbers: CLIP's text tower, frozen, each text encoded once; its tokens; or words that a model learns itself.

`source` is a name on the hub or a folder, which hold weights and tokenizer. Letters: B texts, L tokens, C features.
"""

import re
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from reactionnet_datasets.torchvision_on_cpu import ensure

CLIP = "openai/clip-vit-base-patch32"
NUM_WORDS, MAX_WORDS = 1024, 32  # buckets of the learned vocabulary; the first is padding
_EMBEDDED: dict[tuple[str, str], Tensor] = {}


def embed(texts: Sequence[str], source: str, width: int) -> Tensor:
    """CLIP's embedding of each text (B, C), on the CPU. ValueError where the weights cannot be had, or C is not `width`."""
    new = sorted({text for text in texts if (source, text) not in _EMBEDDED})
    if new:
        tower = text_tower(source).eval()
        ids_BL, mask_BL = tokenise(new, source)
        with torch.no_grad():
            found_BC = tower(input_ids=ids_BL, attention_mask=mask_BL.long()).text_embeds
        _EMBEDDED.update({(source, text): row for text, row in zip(new, found_BC, strict=True)})
    found_BC = torch.stack([_EMBEDDED[source, text] for text in texts])
    check_width(source, found_BC.shape[1], width)
    return found_BC


def check_width(source: str, given: int, width: int) -> None:
    """ValueError where a text tower gives another number of features than was set."""
    if given != width:
        raise ValueError(f"{source} gives {given} numbers a text; set text_width={given}")


def tokenise(texts: Sequence[str], source: str = CLIP) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) and which of them count, by the tokenizer of `source`; L is how many its tower has places for (CLIP's
    77), what is longer is cut."""
    found = _tokenizer(source)(
        list(texts), padding="max_length", truncation=True, max_length=_positions(source), return_tensors="pt"
    )
    return found["input_ids"], found["attention_mask"].bool()


def text_tower(source: str = CLIP, *, load: bool = True) -> Any:
    """CLIP's text model with its projection; without `load` of the same sizes, without weights: for `CLIP` nothing is opened.

    ValueError where the weights cannot be had.
    """
    ensure()
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    if not load and source == CLIP:
        return CLIPTextModelWithProjection(CLIPTextConfig())  # whose defaults are its sizes
    try:
        if not load:
            return CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(source))
        return CLIPTextModelWithProjection.from_pretrained(source)
    except OSError as error:
        raise ValueError(_remedy(source)) from error


@cache
def _positions(source: str) -> int:
    ensure()
    from transformers import CLIPTextConfig

    try:
        return int(CLIPTextConfig.from_pretrained(source).max_position_embeddings)
    except OSError as error:
        raise ValueError(_remedy(source)) from error


@cache
def _tokenizer(source: str) -> Any:
    ensure()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise ValueError(_remedy(source)) from error


def _remedy(source: str) -> str:
    return (
        f"the text encoder {source!r} cannot be had. Name a folder with a CLIP text model and its tokenizer (text=FOLDER), "
        "or let the model learn words itself (text=words)"
    )


def word_ids(texts: Sequence[str]) -> Tensor:
    """Words of each text as numbers of a fixed hash, (B, 32), 0 where there are no more. Case and signs do not count."""
    ids = torch.zeros(len(texts), MAX_WORDS, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        words = re.findall(r"[a-z0-9]+", text.lower())[:MAX_WORDS]
        row[: len(words)] = torch.tensor([1 + zlib.crc32(word.encode()) % (NUM_WORDS - 1) for word in words])
    return ids
