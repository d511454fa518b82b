"""Shards behind s3://, from a server of its own on this machine."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader

from drawn_shards import write_dataset
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.storage import ShardError


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A data set in a folder, and the same in a bucket."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    root = write_dataset(tmp_path / "set", [6, 130, 3, 9], num_shards=3, side=8)
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("shards")
    system.put(str(root), "shards/set", recursive=True)
    yield root, "s3://shards/set", system
    server.stop()


def test_a_bucket_gives_the_same_batches_as_a_folder_also_to_workers_and_after_a_stop(bucket, tmp_path):
    root, url, system = bucket

    def dataset(where):
        return ShardDataset(where, window=4, batch_size=3, shuffle=True, seed=2, cache=tmp_path / "cache")

    def same(these, those):
        return all(
            a["key"] == b["key"] and torch.equal(a["frames"], b["frames"]) for a, b in zip(these, those, strict=True)
        )

    local = [{**batch, "frames": batch["frames"].clone()} for batch in dataset(root)]
    stopped = dataset(url)
    assert same(itertools.islice(stopped, 4), local[:4])
    again = dataset(url)
    again.load_state_dict(stopped.state_dict())
    assert same(again, local[4:])
    assert same(DataLoader(dataset(url), batch_size=None, num_workers=2), local)
    system.rm("shards/set/shards", recursive=True)
    with pytest.raises(ShardError, match=r"s3://shards/set/shards/.* cannot be read"):
        list(ShardDataset(url, cache=tmp_path / "empty"))
