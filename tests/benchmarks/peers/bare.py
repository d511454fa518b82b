"""The limit: decode JPEGs that are in memory already, with our decoder, by as many threads as cores. Nothing is read."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import simplejpeg
from exchange import BATCH, SIDE, serve


def prepare(samples, folder):
    (folder / "samples.pickle").write_bytes(pickle.dumps(list(samples)))


class Batches:
    def __init__(self, folder, settings):
        self.samples = pickle.loads((folder / "samples.pickle").read_bytes())
        self.settings = settings
        self.pool = ThreadPoolExecutor(settings.cores)

    def __iter__(self):
        size, threads = BATCH[self.settings.task], self.settings.cores
        order = np.random.default_rng(self.settings.seed).permutation(len(self.samples))
        out = np.empty((size, len(self.samples[0]), SIDE, SIDE, 3), np.uint8)
        for first in range(0, len(order), size):
            chosen = order[first : first + size]
            places = [(out[n, t], data) for n, at in enumerate(chosen) for t, data in enumerate(self.samples[at])]
            done = [self.pool.submit(_decode, places[thread::threads]) for thread in range(threads)]
            for one in done:
                one.result()
            yield out[: len(chosen)]


def _decode(places):
    for out, data in places:
        simplejpeg.decode_jpeg(data, "RGB", buffer=out)


if __name__ == "__main__":
    serve(prepare, Batches)
