"""Tiny real models for tests: a 0.3 MB BLIP, a 0.08 MB CLIP text tower, and ONNX stand-ins for DeepFace's four attribute nets.

They run the real loading and inference code; what they say means nothing. transformers 5 tokenizers take `vocab={token: id}`
(a `vocab_file=` is silently ignored). DeepFace looks for weights under $DEEPFACE_HOME/.deepface/weights with
DEEPFACE_BACKEND_ENGINE=onnx; `onnx` is needed only to make the files.
"""

from pathlib import Path

import numpy as np

from reactionnet_datasets import torchvision_on_cpu

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "woman", "is", "looking", "at", "the", "camera", "red",
    "ball", "cat", "dog", "runs", "over", "box", ".",
]  # fmt: skip


def tiny_blip(out: Path, seed: int = 0) -> Path:
    import torch

    torchvision_on_cpu.ensure()
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}, do_lower_case=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    torch.manual_seed(seed)
    BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=vision, projection_dim=32)
    ).eval().save_pretrained(out)
    BlipProcessor(
        image_processor=BlipImageProcessor(size={"height": 64, "width": 64}), tokenizer=tokenizer
    ).save_pretrained(out)
    return out


def tiny_clip_text(out: Path) -> Path:
    from transformers import BertTokenizerFast, CLIPTextConfig, CLIPTextModel

    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}, do_lower_case=True)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        projection_dim=32,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    CLIPTextModel(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def tiny_deepface(home: Path, seed: int = 0) -> Path:
    """Mean colour (0 to 1, blue first) times 10 -> linear -> softmax, with the inputs and outputs of the real nets."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(seed)
    weights = home / ".deepface" / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    for name, side, channels, classes in [
        ("facial_expression_model_weights", 48, 1, 7),
        ("age_model_weights", 224, 3, 101),
        ("gender_model_weights", 224, 3, 2),
        ("race_model_single_batch", 224, 3, 6),
    ]:
        constants = {
            "axes": np.array([1, 2], "i8"),
            "scale": np.array(0.1, "f4"),
            "W": rng.normal(size=(channels, classes)).astype("f4"),
            "b": rng.normal(size=classes).astype("f4"),
        }
        nodes = [
            helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
            helper.make_node("Div", ["m", "scale"], ["d"]),
            helper.make_node("Gemm", ["d", "W", "b"], ["l"]),
            helper.make_node("Softmax", ["l"], ["y"], axis=-1),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", side, side, channels])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
            [numpy_helper.from_array(value, key) for key, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 9
        save(model, weights / f"{name}.onnx")
    return weights
