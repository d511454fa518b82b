"""How fast are DRR's adaptors and heads? `python tests/benchmarks/drr.py [--batch 32]`: beside the loops of `literal_drr`,
same weights, same batch, taken in turns; processor time of one thread, median of `repeats`; goal: 2 times as fast."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import literal_drr as literal
from reactionnet_models.domain_adaptor import DomainAdaptor
from reactionnet_models.drr import Config
from reactionnet_models.reasoner import Reasoner


def step(run: Callable[[], torch.Tensor], net: torch.nn.Module, training: bool) -> float:
    """Seconds of the processor for one step."""
    begun = time.process_time()
    if training:
        run().sum().backward()
        net.zero_grad()
    else:
        with torch.no_grad():
            run()
    return time.process_time() - begun


def main(batch: Annotated[int, typer.Option()] = 32, repeats: Annotated[int, typer.Option()] = 15) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    reasoner, feature = Reasoner(Config(weights=None, relations=()), 512, "aud"), torch.randn(batch, 3, 512)
    # one of each of ResNet-18's widths, on the maps that it sees there
    adaptors = torch.nn.ModuleList(DomainAdaptor(width, 8) for width in (64, 128, 256, 512))
    maps = [torch.randn(batch, width, 3584 // width, 3584 // width) for width in (64, 128, 256, 512)]

    def adapt(call: Callable[[DomainAdaptor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return torch.stack([call(net, one).sum() for net, one in zip(adaptors, maps, strict=True)])

    def ours() -> torch.Tensor:
        node = reasoner.heads(feature)
        return node.sum() + reasoner.classify(node).sum()

    parts: dict[str, tuple[torch.nn.Module, Callable[[], torch.Tensor], Callable[[], torch.Tensor]]] = {
        "adaptors of 64 to 512 channels, K = 8": (
            adaptors, lambda: adapt(literal.adaptor), lambda: adapt(lambda net, one: net(one)),
        ),
        "heads, 3 domains x 12 units": (
            reasoner, lambda: torch.stack([part.sum() for part in literal.heads(reasoner, feature)]), ours,
        ),
    }  # fmt: skip
    for name, (net, loop, fast) in parts.items():
        for training in (True, False):
            for run in (loop, fast):
                step(run, net, training)
            took: list[list[float]] = [[], []]
            for _ in range(repeats):
                for way, run in enumerate((loop, fast)):
                    took[way].append(step(run, net, training))
            slow, quick = (median(times) for times in took)
            kind = "training" if training else "inference"
            print(f"{name}, {kind}: loop {1e3 * slow:.2f} ms, ours {1e3 * quick:.2f} ms, {slow / quick:.2f} x (goal 2)")


if __name__ == "__main__":
    typer.run(main)
