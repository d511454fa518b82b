"""MosaicML Streaming: MDS shards without compression (JPEGs do not shrink), read where they were written."""

from exchange import decode, join, mend_torchvision, serve, split

mend_torchvision()
import streaming
from torch.utils.data import DataLoader


def prepare(samples, folder):
    with streaming.MDSWriter(columns={"pictures": "bytes"}, out=str(folder), compression=None) as writer:
        for sample in samples:
            writer.write({"pictures": join(sample)})


class Decoded(streaming.StreamingDataset):
    decoder = "simplejpeg"

    def __getitem__(self, index):
        return decode(split(super().__getitem__(index)["pictures"]), self.decoder)


def batches(folder, settings):
    # A loader of its own must not share the places in shared memory of another one.
    streaming.base.util.clean_stale_shared_memory()
    dataset = Decoded(local=str(folder), shuffle=True, shuffle_seed=settings.seed, batch_size=settings.batch_size)
    dataset.decoder = settings.decoder
    return DataLoader(
        dataset, batch_size=settings.batch_size, num_workers=settings.workers, persistent_workers=settings.workers > 0
    )


if __name__ == "__main__":
    serve(prepare, batches)
