"""Stage 0: bring a source to this machine, check its bytes and read its packet headers."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from reactionnet_datasets.shards import atomic_file, file_sha256
from reactionnet_datasets.stores import Place, Stat, StoreError, as_place, local
from reactionnet_pipeline.cache import cached, fingerprint, library_versions
from reactionnet_pipeline.errors import DISK_FULL, Code, SourceError
from reactionnet_pipeline.manifest import redacted
from reactionnet_pipeline.records import Ingested, Source
from reactionnet_pipeline.video import VideoInfo, probe

VERSION = 1
MAX_BYTES = 1 << 40


def ingest(source: Source, work: Place, tombstones: frozenset[str] = frozenset()) -> Ingested:
    """Fetch if remote, hash, probe. Raises SourceError: FETCH_FAILED, CHECKSUM_MISMATCH, TAKEN_DOWN, TOO_LARGE, and what
    `video.probe` raises. A file that keeps its size and time of change, or its version in a store, is not read again.
    """
    path = as_place(source.uri)
    try:
        stat = path.stat()
    except StoreError as error:
        raise SourceError(Code.FETCH_FAILED, redacted(str(error))) from error
    except OSError as error:
        raise SourceError(Code.FETCH_FAILED, f"no file at {redacted(source.uri)}: {error.strerror}") from error
    if isinstance(path, Path) and not path.is_file():
        raise SourceError(Code.FETCH_FAILED, f"{redacted(source.uri)} is not a regular file")
    if stat.st_size > MAX_BYTES:
        raise SourceError(Code.TOO_LARGE, f"{stat.st_size:,} bytes; at most {MAX_BYTES:,}")
    changed = stat.version if isinstance(stat, Stat) else stat.st_mtime_ns
    key = fingerprint(path=str(path), size=stat.st_size, changed=changed)
    sha256 = cached(work, "hash", source.video_id, key, lambda _: {"sha256": _sha256(path)})["sha256"]
    if source.sha256 and sha256 != source.sha256:
        raise SourceError(Code.CHECKSUM_MISMATCH, f"the manifest has sha256 {source.sha256}, the file {sha256}")
    if sha256 in tombstones:
        raise SourceError(Code.TAKEN_DOWN, f"content {sha256} is listed in the tombstones")
    key = fingerprint(stage="probe", version=VERSION, content=sha256, av=library_versions()["av"])
    found = cached(work, "probe", source.video_id, key, lambda stem: _probe(path, stem))
    return Ingested(source=source, path=str(path), sha256=sha256, probe=str(work / "probe" / found["file"]))


@contextmanager
def source_file(source: Ingested | Place) -> Iterator[Path]:
    """The bytes of a source as a file on this machine, while the block runs. Raises SourceError(FETCH_FAILED)."""
    path = as_place(source.path) if isinstance(source, Ingested) else source
    with ExitStack() as stack:
        try:
            file = stack.enter_context(local(path))
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise SourceError(Code.FETCH_FAILED, redacted(str(error))) from error
        yield file


def _sha256(path: Place) -> str:
    with source_file(path) as file:
        return file_sha256(file)


def _probe(path: Place, stem: Place) -> dict[str, str]:
    with source_file(path) as file:
        info = probe(file)
    with atomic_file(stem.parent) as (file, naming):
        np.savez(file, **vars(info))
        naming.name = stem.name + ".npz"
    return {"file": naming.name}


def load_info(file: str | Place) -> VideoInfo:
    """The `VideoInfo` that `ingest` put on file."""
    with np.load(io.BytesIO(as_place(file).read_bytes()), allow_pickle=False) as saved:
        fields = {name: saved[name] if saved[name].ndim else saved[name].item() for name in saved.files}
    return VideoInfo(**fields)
