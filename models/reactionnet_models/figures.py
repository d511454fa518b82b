"""Pictures: curves of a run, confusion matrices, bars of action units, and attention on a face."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def draw_curves(rows: Sequence[Mapping[str, Any]], monitor: str, path: Path) -> None:
    """Training loss, and on the right axis what validation is judged by, over steps; stages follow one another."""
    figure, axes = _figure(7, 4)
    step = 0
    right = axes.twinx() if any(f"val_{monitor}" in row for row in rows) else None
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        steps = [step + row["step"] for row in mine]
        axes.plot(steps, [row["train_loss"] for row in mine], marker="o", label=f"{stage}: training loss")
        known = [(x, row[f"val_{monitor}"]) for x, row in zip(steps, mine, strict=True) if f"val_{monitor}" in row]
        if known and right is not None:
            right.plot(*zip(*known, strict=True), marker="s", linestyle="--", label=f"{stage}: validation {monitor}")
        step = max(steps)
    axes.set(xlabel="steps", ylabel="training loss")
    lines = [*axes.get_legend_handles_labels()[0], *(right.get_legend_handles_labels()[0] if right else [])]
    axes.legend(handles=lines, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(path, dpi=110)


def draw_confusion(names: Sequence[str], counts: Sequence[Sequence[int]], path: Path) -> None:
    """Rows are true classes, in percent of each."""
    matrix = np.asarray(counts, float)
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 1.2 + 0.6 * len(names)
    figure, axes = _figure(side + 1, side)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set(xlabel="predicted", ylabel="true, % of the row")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), [f"{n} ({int(row.sum())})" for n, row in zip(names, matrix, strict=True)])
    for i, j in np.ndindex(share.shape):
        axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", color="white" if share[i, j] > 60 else "black")
    figure.savefig(path, dpi=110)


def draw_bars(ours: Mapping[str, float], paper: Mapping[str, float], path: Path) -> None:
    """One group of bars a label: ours, and the paper's where it has one."""
    figure, axes = _figure(1.5 + 0.55 * len(ours), 3.5)
    places = np.arange(len(ours))
    axes.bar(places - 0.2, list(ours.values()), 0.4, label="ours")
    if any(name in paper for name in ours):
        axes.bar(places + 0.2, [paper.get(name, np.nan) for name in ours], 0.4, label="paper (its own data)")
    axes.set_xticks(places, list(ours))
    axes.set(ylim=(0, 1), ylabel="F1")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def draw_timeline(t_s: Sequence[float], columns: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Predictions of one clip over time."""
    figure, axes = _figure(9, 4)
    for name, values in columns.items():
        axes.plot(t_s, values, label=name, linewidth=1)
    axes.set(xlabel="seconds", title=title)
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    figure.savefig(path, dpi=110)


def draw_values(values: Mapping[str, float], title: str, path: Path) -> None:
    """Predictions of one picture."""
    figure, axes = _figure(5, 1 + 0.3 * len(values))
    axes.barh(list(values), list(values.values()))
    axes.invert_yaxis()
    axes.set(title=title)
    figure.savefig(path, dpi=110)


def draw_attention(face_HWC: np.ndarray, maps_MHW: np.ndarray, titles: Sequence[str], title: str, path: Path) -> None:
    """A face (0 to 1), then the same in grey once a map (0 to 1), where the map is bright as far as it is high."""
    columns = min(1 + len(titles), 5)
    rows = -(-(1 + len(titles)) // columns)
    figure, grid = _figure(1.6 * columns, 1.85 * rows + 0.3, rows, columns)
    places = np.ravel(grid)
    places[0].imshow(face_HWC)
    places[0].set_title("face", fontsize=8)
    grey_HW = 0.75 * face_HWC.mean(axis=2)
    side = (-0.5, grey_HW.shape[1] - 0.5, grey_HW.shape[0] - 0.5, -0.5)
    for axes, map_HW, name in zip(places[1:], maps_MHW, titles, strict=False):
        axes.imshow(grey_HW, cmap="gray", vmin=0, vmax=1)
        axes.imshow(map_HW, cmap="inferno", vmin=0, vmax=1, alpha=map_HW, extent=side, interpolation="bilinear")
        axes.set_title(name, fontsize=8)
    for axes in places:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=8)
    figure.savefig(path, dpi=110)
