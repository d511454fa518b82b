"""What every model owes, asked once: `check_model`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from reactionnet_models import pretrained


def num_parameters(module: ModuleType, config: Any) -> int:
    """Parameters of a preset, counted without memory for them."""
    with torch.device("meta"):
        model = module.build(replace(config, weights=None) if hasattr(config, "weights") else config)
    return sum(parameter.numel() for parameter in model.parameters())


def take(batch: Mapping[str, Tensor], places: slice) -> dict[str, Tensor]:
    return {name: value[places] for name, value in batch.items()}


def assert_close(out: Mapping[str, Tensor], other: Mapping[str, Tensor], atol: float = 1e-5) -> None:
    assert out.keys() == other.keys()
    for name in out:
        torch.testing.assert_close(
            out[name], other[name], atol=atol, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


def check_model(
    module: ModuleType, config: Any, tmp_path: Any, *, learning_rate: float = 0.01, steps: int = 60,
    part: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> None:  # fmt: skip
    """One sample alone answers as in a batch; a saved and reloaded model answers the same; a gradient reaches every
    trainable parameter; four samples can be overfitted."""
    torch.manual_seed(0)
    model, batch = module.build(config), module.example(config, 4)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters(module, config)
    model.eval()
    with torch.no_grad():
        whole = model(batch)
        assert_close(model(take(batch, slice(1, 2))), {name: value[1:2] for name, value in whole.items()})
    pretrained.save_pretrained(model, module, config, tmp_path / "saved", preset="tiny", details={})
    again = pretrained.from_pretrained(tmp_path / "saved").model
    with torch.no_grad():
        assert_close(again(batch), whole, atol=0)
    model.train()
    module.loss(model(batch), batch, config)["loss"].backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum())]
    assert not silent, f"no gradient reaches {silent}"
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    first = module.loss(model(batch), batch, config)["loss"].item()
    for _ in range(steps):
        optimiser.zero_grad()
        terms = module.loss(model(batch), batch, config)
        terms["loss"].backward()
        optimiser.step()
    least = (
        -getattr(config, "num_dimensions", 0) if getattr(config, "task", "") == "va" else 0.0
    )  # what a perfect fit gives
    left = (terms["loss"].item() - least) / (first - least)
    assert left < 0.35, f"{left:.0%} of the loss is left after {steps} steps on four samples"
