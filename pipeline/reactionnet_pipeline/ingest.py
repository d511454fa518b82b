"""Stage 0: bring a source to this machine, check its bytes and read its packet headers."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from reactionnet_datasets.shards import atomic_file, file_sha256
from reactionnet_pipeline.cache import cached, fingerprint, library_versions
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.manifest import redacted
from reactionnet_pipeline.records import Ingested, Source
from reactionnet_pipeline.video import VideoInfo, probe

VERSION = 1
MAX_BYTES = 1 << 40


def ingest(source: Source, work: Path, tombstones: frozenset[str] = frozenset()) -> Ingested:
    """Fetch if remote, hash, probe. Raises SourceError: FETCH_FAILED, CHECKSUM_MISMATCH, TAKEN_DOWN, TOO_LARGE, and what
    `video.probe` raises. A local file that keeps its size and time of change is not read again.
    """
    path = _local(source, work)
    try:
        stat = path.stat()
    except OSError as error:
        raise SourceError(Code.FETCH_FAILED, f"no file at {redacted(source.uri)}: {error.strerror}") from error
    if not path.is_file():
        raise SourceError(Code.FETCH_FAILED, f"{redacted(source.uri)} is not a regular file")
    if stat.st_size > MAX_BYTES:
        raise SourceError(Code.TOO_LARGE, f"{stat.st_size:,} bytes; at most {MAX_BYTES:,}")
    key = fingerprint(path=str(path), size=stat.st_size, changed=stat.st_mtime_ns)
    sha256 = cached(work, "hash", source.video_id, key, lambda _: {"sha256": file_sha256(path)})["sha256"]
    if source.sha256 and sha256 != source.sha256:
        raise SourceError(Code.CHECKSUM_MISMATCH, f"the manifest has sha256 {source.sha256}, the file {sha256}")
    if sha256 in tombstones:
        raise SourceError(Code.TAKEN_DOWN, f"content {sha256} is listed in the tombstones")
    key = fingerprint(stage="probe", version=VERSION, content=sha256, av=library_versions()["av"])
    found = cached(work, "probe", source.video_id, key, lambda stem: _probe(path, stem))
    return Ingested(source=source, path=str(path), sha256=sha256, probe=str(work / "probe" / found["file"]))


def _local(source: Source, work: Path) -> Path:
    if urlsplit(source.uri).scheme not in ("gs", "s3"):
        return Path(source.uri)
    import fsspec

    folder = work / "fetched"
    name = hashlib.sha256(source.uri.encode()).hexdigest()[:32] + Path(urlsplit(source.uri).path).suffix[:8]
    if not (folder / name).exists():
        try:
            with fsspec.open(source.uri, "rb") as remote, atomic_file(folder) as (file, naming):
                while piece := remote.read(8 << 20):
                    if file.tell() + len(piece) > MAX_BYTES:
                        raise SourceError(Code.TOO_LARGE, f"{redacted(source.uri)}: more than {MAX_BYTES:,} bytes")
                    file.write(piece)
                naming.name = name
        except (OSError, ImportError, ValueError) as error:
            raise SourceError(Code.FETCH_FAILED, f"{redacted(source.uri)}: {error}") from error
    return folder / name


def _probe(path: Path, stem: Path) -> dict[str, str]:
    info = probe(path)
    with atomic_file(stem.parent) as (file, naming):
        np.savez(file, **vars(info))
        naming.name = stem.name + ".npz"
    return {"file": naming.name}


def load_info(file: str | Path) -> VideoInfo:
    """The `VideoInfo` that `ingest` put on file."""
    with np.load(file, allow_pickle=False) as saved:
        fields = {name: saved[name] if saved[name].ndim else saved[name].item() for name in saved.files}
    return VideoInfo(**fields)
