"""Hugging Face datasets: an Arrow table mapped into memory, read a batch at a time through `set_transform`."""

import pyarrow as pa
import pyarrow.parquet as pq
from exchange import decode, join, serve, split
from torch.utils.data import DataLoader

import datasets

SHARDS = 8


def prepare(samples, folder):
    samples = [join(sample) for sample in samples]
    for shard in range(SHARDS):
        table = pa.table({"pictures": pa.array(samples[shard::SHARDS], pa.binary())})
        pq.write_table(table, folder / f"train-{shard:05d}.parquet", compression="none", row_group_size=100)


def batches(folder, settings):
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    dataset = datasets.load_dataset(
        "parquet", data_files={"train": files}, split="train", cache_dir=str(folder / "cache")
    )
    dataset.set_transform(
        lambda rows: {"pictures": [decode(split(data), settings.decoder) for data in rows["pictures"]]}
    )
    loader = DataLoader(
        dataset, batch_size=settings.batch_size, shuffle=True, num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
    )  # fmt: skip
    return Pictures(loader)


class Pictures:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        for batch in self.loader:
            yield batch["pictures"]


if __name__ == "__main__":
    serve(prepare, batches)
