"""Plain webdataset 1.0: a tar member a picture, shards and samples shuffled, batched inside, `WebLoader` outside."""

import webdataset as wds
from exchange import decode, serve

SHARDS = 8


def prepare(samples, folder):
    samples = list(samples)
    for shard in range(SHARDS):
        with wds.TarWriter(str(folder / f"{shard:03d}.tar")) as tar:
            for number in range(shard, len(samples), SHARDS):
                pictures = {f"{place:03d}.jpg": data for place, data in enumerate(samples[number])}
                tar.write({"__key__": f"{number:06d}", **pictures})


def batches(folder, settings):
    def pictures(sample):
        names = sorted(name for name in sample if name.endswith(".jpg"))
        return (decode([sample[name] for name in names], settings.decoder),)

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    buffer = 1000 if settings.task == "frames" else 20
    dataset = wds.WebDataset(urls, shardshuffle=SHARDS, seed=settings.seed, empty_check=False)
    dataset = dataset.shuffle(buffer).map(pictures).batched(settings.batch_size)
    loader = wds.WebLoader(
        dataset, batch_size=None, num_workers=settings.workers, persistent_workers=settings.workers > 0
    )
    return Unwrapped(loader)


class Unwrapped:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        for (batch,) in self.loader:
            yield batch


if __name__ == "__main__":
    serve(prepare, batches)
