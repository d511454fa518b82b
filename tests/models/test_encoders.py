"""Weights of a file: what fits is loaded, what does not is said in one line."""

import pytest
import torch
from safetensors.torch import save_file

from reactionnet_models.encoders import image_encoder, load
from reactionnet_models.vit import vit_encoder


def stored(path, state) -> str:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return str(path)


def test_weights_of_a_file_are_loaded(tmp_path):
    torch.manual_seed(0)
    state = image_encoder("tiny")[0].state_dict()
    found = image_encoder("tiny", weights=stored(tmp_path / "own.safetensors", state))[0].state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {f"encoder.{name}": value for name, value in state.items()}, "layers.0.weight is missing"),
        (lambda state: state | {"layers.3.bias": torch.zeros(5)}, r"layers.3.bias is \(5,\); expected \(16,\)"),
        (lambda state: state | {"fc.weight": torch.zeros(5)}, "fc.weight is none of its weights"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_that_differs(change, said, tmp_path):
    path = stored(tmp_path / "other.safetensors", change(image_encoder("tiny")[0].state_dict()))
    with pytest.raises(
        ValueError, match=f"^weights={path} holds weights of another network, not those of tiny: {said}$"
    ):
        image_encoder("tiny", weights=path)


@pytest.mark.parametrize("name", ["resnet18", "maxvit_t"])
def test_a_torchvision_encoder_refuses_them_too(name, tmp_path):
    path = stored(tmp_path / "tiny.safetensors", image_encoder("tiny")[0].state_dict())
    with pytest.raises(
        ValueError, match=f"{path} holds weights of another network, not those of {name}: [a-z0-9.]+ is missing$"
    ):
        image_encoder(name, weights=path)


def test_a_vit_refuses_them_too(tmp_path):
    path = stored(tmp_path / "tiny.safetensors", image_encoder("tiny")[0].state_dict())
    with pytest.raises(
        ValueError, match=f"{path} holds weights of another network, not those of a ViT of size tiny: .* is missing"
    ):
        vit_encoder("tiny", 32, 16, path)
    wider = vit_encoder("tiny", 64, 16)[0].state_dict()
    with pytest.raises(ValueError, match=r"position_embeddings is \(1, 17, 16\); expected \(1, 5, 16\)"):
        vit_encoder("tiny", 32, 16, stored(tmp_path / "wider.safetensors", wider))


def test_torchs_own_message_is_kept_as_the_cause():
    with pytest.raises(ValueError) as caught:
        load(torch.nn.Linear(2, 2), {}, "a layer", "nothing")
    assert isinstance(caught.value.__cause__, RuntimeError)
