"""ShardDataset: one data set serves all three tasks."""

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


def resume(folder, settings):
    """Seconds from nothing to the batch after the middle."""
    stopped = dataset(folder, settings)
    rows = iter(stopped)
    for _ in range(len(stopped) // 2):
        next(rows)
    state = stopped.state_dict()
    start = time.perf_counter()
    again = dataset(folder, settings)
    again.load_state_dict(state)
    next(iter(again))
    return time.perf_counter() - start


if __name__ == "__main__":
    serve(prepare, Batches, resume)
