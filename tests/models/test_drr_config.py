"""Settings of DRR that do not fit: one line that names the field, its value, and what is expected."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

from reactionnet_models import drr
from reactionnet_models.domain_adaptor import map_encoder
from reactionnet_models.encoders import image_encoder
from reactionnet_models.relations import relation_matrix

TINY = drr.PRESETS["tiny"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0; expected more than 0"),
        ({"temperature": float("nan")}, "temperature=nan; expected more than 0"),
        ({"adapters": -1}, "adapters=-1; expected 0 or more"),
        ({"contrastive_weight": -1.0}, "contrastive_weight=-1.0; expected 0 or more"),
        ({"node_width": 0}, "node_width=0; expected 1 or more"),
        ({"head_width": 0}, "head_width=0; expected 1 or more"),
        ({"image_size": 0}, "image_size=0; expected 1 or more"),
        ({"threshold": 2.0}, "threshold=2.0; expected 0 to 1"),
        ({"relations": ("6-12", "6-x")}, "relations '6-x'; expected pairs of action units, as 6-12"),
        ({"relations": ("6",)}, "relations '6'; expected"),
        ({"relations": ("1-2-4",)}, "relations '1-2-4'; expected"),
    ],
)
def test_a_setting_out_of_range_is_an_error(setting, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **setting)


def test_a_pair_that_is_none_is_an_error_wherever_it_comes_from():
    assert relation_matrix((6, 12, 1), ("12-6",), facs=False).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match="relations '6x12'; expected"):
        relation_matrix((6, 12), ("6x12",))


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50", "vit_b_16"])
def test_weights_of_another_network_are_refused(encoder, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in image_encoder("tiny")[0].state_dict().items()}, path)
    with pytest.raises(
        ValueError, match=f"{path} holds weights of another network, not those of {encoder}: .* is missing$"
    ):
        map_encoder(encoder, num_adapters=2 if encoder == "resnet18" else 0, weights=str(path))
