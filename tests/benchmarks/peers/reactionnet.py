"""ShardDataset: one data set serves all three tasks."""

import statistics
import time

from exchange import serve
from torch.utils.data import DataLoader

from reactionnet_datasets import ShardDataset

READING = {
    "frames": {"window": 1},
    "windows": {"window": 48, "stride": 48, "tail": "drop"},
    "spread": {"num_frames": 32},
}


def prepare(samples, folder):
    """Nothing: the benchmark wrote `dataset` before, for all tasks at once."""


def dataset(folder, settings):
    return ShardDataset(
        folder.parents[1] / "dataset", shuffle=True, seed=settings.seed, batch_size=settings.batch_size,
        fields=("frames",), threads=None if settings.workers else settings.cores, **READING[settings.task],
    )  # fmt: skip


class Batches:
    def __init__(self, folder, settings):
        self.dataset = dataset(folder, settings)
        self.loader = self.dataset
        if settings.workers:
            self.loader = DataLoader(
                self.dataset, batch_size=None, num_workers=settings.workers, persistent_workers=True
            )

    def __iter__(self):
        for batch in self.loader:
            yield batch["frames"].movedim(2, -1)


def begin(folder, settings):
    """Seconds from nothing to the first batch, and from a state of the middle to the batch after it; medians of 5."""
    times = {"first_s": [], "resume_s": []}
    for _ in range(5):
        stopped = dataset(folder, settings)
        for _ in zip(range(len(stopped) // 2), stopped, strict=False):
            pass
        for name, state in (("first_s", None), ("resume_s", stopped.state_dict())):
            start = time.perf_counter()
            again = dataset(folder, settings)
            if state is not None:
                again.load_state_dict(state)
            next(iter(again))
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    serve(prepare, Batches, begin)
