"""LitData: chunks of 64 MB written by `optimize`, `StreamingDataset` and `StreamingDataLoader`."""

from exchange import decode, join, mend_torchvision, serve, split

mend_torchvision()
import litdata


class Samples:
    """A function that can be pickled, for `optimize`."""

    def __init__(self, samples):
        self.samples = samples

    def __call__(self, number):
        return {"pictures": join(self.samples[number])}


def prepare(samples, folder):
    samples = list(samples)
    litdata.optimize(
        fn=Samples(samples), inputs=list(range(len(samples))), output_dir=str(folder), num_workers=1, chunk_bytes="64MB"
    )


class Decoded(litdata.StreamingDataset):
    decoder = "simplejpeg"

    def __getitem__(self, index):
        return decode(split(super().__getitem__(index)["pictures"]), self.decoder)


def batches(folder, settings):
    dataset = Decoded(str(folder), shuffle=True, seed=settings.seed)
    dataset.decoder = settings.decoder
    return litdata.StreamingDataLoader(
        dataset, batch_size=settings.batch_size, num_workers=settings.workers, persistent_workers=settings.workers > 0
    )


if __name__ == "__main__":
    serve(prepare, batches)
