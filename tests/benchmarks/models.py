"""How fast are the models? `python tests/benchmarks/models.py [--precision bf16-mixed] [--no-compiled] [--data SHARDS]`.

Each part's training step and inference beside the loop of the tests (`literal_aar`, `literal_drr`: one Python loop over what
the paper indexes, every body a library call), same weights, same batch, taken in turns, so that what else a machine does
meets both. CAGE's networks are torchvision's: beside them stands torchvision's module by itself. Peak memory is that of a
process of its own for each. With `--data`, the share of a training step spent waiting for data. Where there is a GPU: pictures
a second and memory of presets at the paper's batch size, bf16.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import literal_aar as literal
import literal_drr
from reactionnet_models import aar, cage, drr
from reactionnet_models.domain_adaptor import DomainAdaptor
from reactionnet_models.reasoner import Reasoner

console = Console(width=120)
PARTS = {
    "AAR stage A": (1.5, "attention"),
    "AAR stage B": (3.0, "relation"),
    "DRR adaptors": (2.0, "adaptors"),
    "DRR heads": (2.0, "heads"),
}
CAGE_FULL = ("affectnet8_maxvit_combined", "affectnet8_efficientnet_combined", "affectnet8_swin_combined")
DRR_SAMPLES = 8  # pictures of DRR to one of AAR: 32, its batch
WAYS = ("loop", "eager", "compiled")
MEMORY_SLACK = 1.02


def make(part: str, way: str, size: str, batch: int, training: bool, precision: str) -> Any:
    """A function that does one step in Lightning's precision of that name, `32-true` or `bf16-mixed`, and where `training`
    the gradient of its loss too, which is computed outside autocast, as Lightning does."""
    torch.manual_seed(0)
    if part in cage.PRESETS:
        net, forward = make_cage(way, part, batch, training)
    elif part in ("adaptors", "heads"):
        net, forward = make_drr(part, way, batch * DRR_SAMPLES, training)
    else:
        net, forward = make_aar(part, way, size, batch, training)

    def step() -> None:
        with (
            torch.set_grad_enabled(training),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"),
        ):
            found = forward()
        if training:
            found.backward()
            net.zero_grad()

    return step


def make_aar(part: str, way: str, size: str, batch: int, training: bool) -> tuple[torch.nn.Module, Any]:
    """A stage's network, and a function of its loss, or where not `training` of its answer."""
    config = aar.PRESETS["bp4d" if size == "full" else "small"]
    config = aar.with_rates(config, {f"au_occ_{au}": 0.3 for au in config.aus})
    net = getattr(aar.build(config), part).train(training)
    units = len(config.aus)
    if part == "attention":
        given = aar.example(config, batch, 1)
    else:
        labels = {name: torch.ones(batch, 48, units) for name in ("au_BTM", "au_mask_BTM")}
        given = {"feature_BTMC": torch.randn(batch, 48, units, config.width), "au_BTM": labels["au_BTM"]}
        given["au_mask_BTM"] = labels["au_mask_BTM"].bool()
    if way == "loop":
        run = (
            (lambda: literal.attention(net, given["image_BTCHW"]))
            if part == "attention"
            else (lambda: {"logit_BTM": literal.relation(net, given["feature_BTMC"])})
        )
    else:
        forward = torch.compile(net, fullgraph=True) if way == "compiled" else net
        run = lambda: forward(given)  # noqa: E731
    return net, (lambda: aar.loss(run(), given, config)["loss"]) if training else run


def make_drr(part: str, way: str, batch: int, training: bool) -> tuple[torch.nn.Module, Any]:
    """The same of DRR at full size: the heads of its 3 x 12 nodes, or one adaptor of each width of ResNet-18, K = 8, on the
    maps that it sees there."""
    if part == "heads":
        net: torch.nn.Module = Reasoner(drr.Config(weights=None, relations=()), 512, "aud")
        given = [torch.randn(batch, 3, 512, requires_grad=training)]
    else:
        widths = (64, 128, 256, 512)
        net = torch.nn.ModuleList(DomainAdaptor(width, 8) for width in widths)
        given = [torch.randn(batch, w, 3584 // w, 3584 // w, requires_grad=training) for w in widths]

    def ours() -> list[torch.Tensor]:
        if isinstance(net, Reasoner):
            node = net.heads(given[0])
            return [node, net.classify(node)]
        return [adaptor(one) for adaptor, one in zip(net, given, strict=True)]

    def loop() -> list[torch.Tensor]:
        if isinstance(net, Reasoner):
            return [*literal_drr.heads(net, given[0])]
        return [literal_drr.adaptor(adaptor, one) for adaptor, one in zip(net, given, strict=True)]

    run = {"loop": loop, "eager": ours, "compiled": torch.compile(ours, fullgraph=True)}[way]

    def loss() -> torch.Tensor:
        for one in given:
            one.grad = None
        return torch.stack([one.sum() for one in run()]).sum()

    return net, loss if training else run


def make_cage(way: str, preset: str, batch: int, training: bool) -> tuple[torch.nn.Module, Any]:
    """The same of a CAGE preset, or of torchvision's own module with the same head and weights, by the words of Eq. 1."""
    config = cage.replace(cage.PRESETS[preset], weights=None, class_weights=cage.WEIGHTS_8)
    model = cage.build(config).train(training)
    given = cage.example(config, batch)
    net: Any = model
    if way == "loop":
        net = model.encoder
        last = next(name for name in ("classifier", "head", "fc") if hasattr(net, name))  # as torchvision calls it
        pooling = getattr(net, last) if config.encoder.startswith("maxvit") else ()  # the others pool before
        setattr(net, last, torch.nn.Sequential(*pooling, *model.head))
    run = torch.compile(net, fullgraph=True) if way == "compiled" else net
    weight = torch.tensor(cage.WEIGHTS_8)

    def literal_loss() -> torch.Tensor:
        out = run(given["image_BCHW"])
        entropy = torch.nn.functional.cross_entropy(out[:, :8], given["expression_B"], weight=weight)
        return entropy + 5 * torch.nn.functional.mse_loss(out[:, 8:], given["affect_BD"])

    if not training:
        return net, lambda: run(given["image_BCHW"] if way == "loop" else given)
    return net, literal_loss if way == "loop" else lambda: cage.loss(run(given), given, config)["loss"]


def peak_of(part: str, way: str, size: str, batch: int, training: bool, precision: str, threads: int) -> float:
    """MB that one process needs above what it had before its first step, without the libraries' own code, of which a first
    step reads 12 MB from disk. Tensors go back to the system when they are freed, or a peak would hang on what was freed
    before."""
    arguments = [part, way, size, str(batch), str(int(training)), precision, str(threads)]
    done = subprocess.run(
        [sys.executable, __file__, "--measure", json.dumps(arguments)],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{part}, {way}: {(done.stderr or done.stdout).strip()[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])["mb"]


def _measure(arguments: list[str]) -> None:
    part, way, size, batch, training, precision, threads = arguments
    torch.set_num_threads(int(threads))
    step = make(part, way, size, int(batch), training == "1", precision)
    before = resident("RssAnon")
    step()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    step()
    print(json.dumps({"mb": resident("VmHWM") - resident("RssFile") - before}))


def resident(name: str) -> float:
    """MB of this process: its own data and files' that it has read now (`RssAnon`, `RssFile`), both at most (`VmHWM`);
    Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def timed(steps: dict[str, Any], repeats: int) -> dict[str, float]:
    """The middle of the seconds of each, taken in turns after one step to warm, and compile."""
    for step in steps.values():
        step()
    took: dict[str, list[float]] = {way: [] for way in steps}
    for _ in range(repeats):
        for way, step in steps.items():
            begun = time.perf_counter()
            step()
            took[way].append(time.perf_counter() - begun)
    return {way: median(times) for way, times in took.items()}


def main(
    threads: Annotated[int, typer.Option(help="Of the processor.")] = 2,
    size: Annotated[str, typer.Option(help="full: the paper's; small: 96 px, c = 4.")] = "full",
    batch: Annotated[int, typer.Option(help="Frames of stage A, sequences of stage B, pictures of CAGE.")] = 4,
    repeats: Annotated[int, typer.Option()] = 5,
    precision: Annotated[str, typer.Option(help="32-true, or bf16-mixed.")] = "32-true",
    only: Annotated[
        str, typer.Option(help="What to measure: words of the first column, such as CAGE or stage A.")
    ] = "",
    compiled: Annotated[bool, typer.Option(help="Also torch.compile(fullgraph=True).")] = True,
    data: Annotated[str | None, typer.Option(help="Imported rendered_facs, for the waiting.")] = None,
    measure: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure and print."""
    if measure:
        _measure(json.loads(measure))
        return
    if precision not in ("32-true", "bf16-mixed"):
        raise typer.BadParameter(f"{precision!r}; 32-true or bf16-mixed", param_hint="--precision")
    torch.set_num_threads(threads)
    ways = WAYS if compiled else WAYS[:2]
    table = Table(
        title=f"{size}, {precision}, batch {batch}, {threads} threads, torch {torch.__version__}: loop / ours (goal)"
    )
    columns = [
        "",
        "step",
        *(f"{way}, s" for way in ways),
        *(f"loop / {way}" for way in ways[1:]),
        "peak MB: loop",
        "eager",
    ]
    for column in columns:
        table.add_column(column)
    presets = CAGE_FULL if size == "full" else ("small_combined",)
    parts = PARTS | {f"CAGE {preset}": (1.0, preset) for preset in presets}
    for name, (goal, part) in parts.items():
        for training in (True, False):
            if only not in name:
                continue
            steps = {way: make(part, way, size, batch, training, precision) for way in ways}
            middle = timed(steps, repeats)
            peaks = [peak_of(part, way, size, batch, training, precision, threads) for way in ("loop", "eager")]
            ratios = [f"{middle['loop'] / middle[way]:.2f} ({goal})" for way in ways[1:]]
            shown = [f"{peaks[0]:.1f}", f"{peaks[1]:.1f}" + (" higher" if peaks[1] > MEMORY_SLACK * peaks[0] else "")]
            kind = "training" if training else "inference"
            table.add_row(name, kind, *(f"{middle[way]:.3f}" for way in ways), *ratios, *shown)
    console.print(table)
    console.print("CAGE's loop is torchvision's own module with the same head and weights, and Eq. 1 as it stands")
    if data:
        console.print(waiting(data))
    if torch.cuda.is_available():
        console.print(on_gpu())


def waiting(data: str, num_steps: int = 12) -> Table:
    """Share of training steps spent waiting for the next batch, small presets on imported rendered_facs."""
    from reactionnet_models.data import Data, Loader, open_split
    from reactionnet_models.training import make_optimiser

    table = Table(title=f"waiting for data, {num_steps} steps (goal < 5 %)")
    for column in ("preset", "s a step", "waiting"):
        table.add_column(column)
    for module, preset in ((aar, "small"), (cage, "small_combined")):
        config, recipe = module.PRESETS[preset], module.RECIPES[preset]
        rates = {
            **dict.fromkeys(recipe.labels, 0.2),
            **{f"expression={n}": 1 / 8 for n in cage.classes_of("affectnet8")},
        }
        config = module.with_rates(config, rates)
        stage = recipe.stages[0]
        loader = Loader(open_split(module, config, recipe, stage, Data(root=data), "train", train=True))
        model = module.build(config)
        net = getattr(model, stage.part) if stage.part else model
        optimiser = make_optimiser(stage, net)
        items = iter(loader)
        next(items)  # the first batch fills the pipe
        loader.waited_s, begun = 0.0, time.perf_counter()
        for _ in range(num_steps):
            batch = module.prepare(next(items), config, torch.Generator().manual_seed(0))
            module.loss(net(batch), batch, config)["loss"].backward()
            optimiser.step()
            optimiser.zero_grad()
        took = time.perf_counter() - begun
        table.add_row(
            f"{module.__name__.rpartition('.')[2]} {preset}", f"{took / num_steps:.2f}", f"{loader.waited_s / took:.1%}"
        )
    return table


def on_gpu() -> Table:
    """Training steps of the papers' presets at their batch sizes, bf16."""
    table = Table(title=f"{torch.cuda.get_device_name()}, bf16, training")
    for column in ("preset", "batch", "pictures a second", "peak GB"):
        table.add_column(column)
    for module, preset in [(aar, "bp4d_aa"), *((cage, name) for name in cage.PRESETS if name.startswith("affectnet8"))]:
        config, stage = module.PRESETS[preset], module.RECIPES[preset].stages[0]
        model = module.build(cage.replace(config, weights=None) if module is cage else config).cuda()
        batch = {name: value.cuda() for name, value in module.example(config, stage.batch_size).items()}
        torch.cuda.reset_peak_memory_stats()
        for step in range(13):
            if step == 3:
                torch.cuda.synchronize()
                begun = time.perf_counter()
            with torch.autocast("cuda", torch.bfloat16):
                out = model(batch)
            module.loss(out, batch, config)["loss"].backward()
            model.zero_grad()
        torch.cuda.synchronize()
        images = next(value for name, value in batch.items() if name.startswith("image"))
        pictures = 10 * images.shape[0] * (images.shape[1] if images.dim() == 5 else 1)
        rate = pictures / (time.perf_counter() - begun)
        table.add_row(preset, str(stage.batch_size), f"{rate:.0f}", f"{torch.cuda.max_memory_allocated() / 2**30:.1f}")
    return table


if __name__ == "__main__":
    typer.run(main)
