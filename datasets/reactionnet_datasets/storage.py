"""Where the bytes of a data set lie: a folder, or anything fsspec opens, read in ranges through a bounded cache.

Both kinds answer `read(path, start, size)` from any number of threads, survive a fork and a pickle, and refuse paths
that lead out of the data set. A remote file is fetched in blocks of 4 MiB, each kept as a file of its own under a name
that nobody else uses, so that processes may share a cache; the least recently used go first when it is full.
"""

import hashlib
import mmap
import os
import re
import sys
import threading
import uuid
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from reactionnet_datasets.stores import faults, system_options

BLOCK_BYTES = 4 << 20
# Parts of a file nearer than this are read in one go: a seek costs more than the bytes between.
JOIN_BYTES = 8 << 10
CACHE_BYTES = 32 << 30
MAX_OPEN = 64
MAX_MAPPED = 256  # each holds a file descriptor
# `s3://`, `gs://`, `memory://`; a single letter would be a Windows drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class ShardError(ValueError):
    """A data set whose bytes are not what its manifest and indexes say. The message names the file."""


class Storage(Protocol):
    """Read access to the files of a data set. `name` is how messages call the whole."""

    name: str

    def read(self, path: str, start: int, size: int) -> bytes | memoryview:
        """Exactly `size` bytes, good until this thread reads again. ShardError where the file is missing or ends."""

    def joins(self, path: str) -> int:
        """How many bytes between two parts of a file are cheaper to read than a second read."""

    def whole(self, path: str) -> bytes:
        """All bytes of a small file."""

    def size(self, path: str) -> int:
        """Length of a file in bytes."""


def open_storage(root: str | Path, *, cache: str | Path | None = None, cache_bytes: int = CACHE_BYTES) -> Storage:
    """A folder, or a URL of any file system that fsspec knows. ValueError for a chained URL (`a::b`).

    A cache has room for 8 blocks at the least; where it is small, blocks are smaller.
    """
    text = str(root)
    if "::" in text:
        raise ValueError(f"{text!r} chains file systems; name the folder of the data set itself")
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if not _URL.match(text):
        return LocalStorage(Path(text))
    folder = Path(cache) if cache is not None else _default_cache()
    if cache_bytes < 1 << 16:
        raise ValueError(f"a cache of {cache_bytes} bytes is too small; give it 64 KiB or more")
    return RemoteStorage(text, folder, cache_bytes=cache_bytes, block_bytes=min(BLOCK_BYTES, cache_bytes // 8))


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reactionnet" / "shards"


def inside(path: str) -> str:
    """A path of a manifest, checked: relative, without `..`. ShardError for any other."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in path:
        raise ShardError(f"{path!r} leads out of the data set; a manifest names files below its own folder")
    return path


_thread = threading.local()


def _scratch(size: int) -> memoryview:
    """Memory of this thread, used again for every read."""
    buffer = getattr(_thread, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _thread.buffer = memoryview(bytearray(max(size, 1 << 20)))
    return buffer[:size]


def _half_of_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 0


class LocalStorage:
    """Files of a folder, which published files never change in place.

    As many as half of the machine's memory holds are mapped, which spares a copy and a system call for each picture. The
    others are read: where a page has to come from the disk first, a map would keep Python's lock meanwhile. Open files
    are kept, a few at a time; an evicted one is closed by its last reader.
    """

    def __init__(self, root: Path):
        self.name = str(root)
        self._root = root
        self._files: OrderedDict[str, tuple[BinaryIO, int]] = OrderedDict()
        self._maps: dict[str, tuple[mmap.mmap, memoryview]] = {}
        self._to_map = _half_of_memory()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_root": self._root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_root"])  # type: ignore[misc]

    def read(self, path: str, start: int, size: int) -> memoryview:
        mapped = self._maps.get(path)
        # The length is looked at anew: touching what was cut off since would end the process.
        if mapped is not None and start >= 0 and start + size <= mapped[0].size():
            return mapped[1][start : start + size]
        file, length = self._files.get(path) or self._open(path)
        data = _scratch(size)
        try:
            found = os.preadv(file.fileno(), [data], start) if start >= 0 else -1
        except OSError as error:
            raise ShardError(f"{path} cannot be read at {start}: {error.strerror}") from error
        if found != size:
            raise ShardError(
                f"{path} ends at byte {length}; the index expects {size} bytes at {start}. "
                "Was it cut off? Copy or build it again"
            )
        return data

    def joins(self, path: str) -> int:
        if path not in self._files and path not in self._maps:
            self._open(path)
        return sys.maxsize if path in self._maps else JOIN_BYTES  # of a map, what is not looked at costs nothing

    def whole(self, path: str) -> bytes:
        try:
            return (self._root / inside(path)).read_bytes()
        except OSError as error:
            raise ShardError(f"{path} cannot be read: {error.strerror}") from error

    def size(self, path: str) -> int:
        return self._open(path)[1]

    def _open(self, path: str) -> tuple[BinaryIO, int]:
        found = self._files.get(path)
        if found is None:
            try:
                file = (self._root / inside(path)).open("rb", buffering=0)
            except OSError as error:
                raise ShardError(f"{path} cannot be read: {error.strerror}") from error
            found = file, os.fstat(file.fileno()).st_size
            with self._lock:
                self._files[path] = found
                # Dropped, not closed: a thread may be reading it right now.
                while len(self._files) > MAX_OPEN:
                    self._files.popitem(last=False)
                if path not in self._maps and len(self._maps) < MAX_MAPPED and 0 < found[1] <= self._to_map:
                    self._to_map -= found[1]
                    whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    self._maps[path] = whole, memoryview(whole)
        return found


class RemoteStorage:
    """Files behind an fsspec URL; blocks that were fetched lie in `cache`, at most about `cache_bytes` of them.

    A file's blocks are named after its URL and length, and shards carry their content's hash in their name, so a block
    never goes stale.
    """

    def __init__(self, url: str, cache: Path, *, cache_bytes: int, block_bytes: int = BLOCK_BYTES):
        self.name = url.rstrip("/")
        self.fetched_bytes = 0
        self._cache, self._cache_bytes, self._block = cache, cache_bytes, block_bytes
        self._reset()

    def _reset(self) -> None:
        self._systems: dict[int, tuple[Any, str]] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._busy: dict[Path, threading.Lock] = {}
        self._unaccounted = self._cache_bytes  # so that the first block looks at what the cache holds already

    def __getstate__(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "_cache": self._cache,
            "_cache_bytes": self._cache_bytes,
            "_block": self._block,
            "fetched_bytes": 0,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def read(self, path: str, start: int, size: int) -> bytes:
        length = self.size(path)
        if start < 0 or size < 0 or start + size > length:
            raise ShardError(f"{path} ends at byte {length}; the index expects {size} bytes at {start}")
        pieces = []
        for block in range(start // self._block, -(-(start + size) // self._block)):
            first = max(start - block * self._block, 0)
            last = min(start + size - block * self._block, self._block)
            pieces.append(self._part(path, length, block, first, last))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def joins(self, path: str) -> int:
        return JOIN_BYTES

    def whole(self, path: str) -> bytes:
        system, prefix = self._system()
        try:
            return system.cat_file(f"{prefix}/{inside(path)}")
        except faults() as error:
            raise ShardError(f"{self.name}/{path} cannot be read: {error or type(error).__name__}") from error

    def size(self, path: str) -> int:
        if path not in self._sizes:
            system, prefix = self._system()
            try:
                found = system.size(f"{prefix}/{inside(path)}")
            except faults() as error:
                raise ShardError(f"{self.name}/{path} cannot be read: {error or type(error).__name__}") from error
            if found is None:
                raise ShardError(f"{self.name}/{path} cannot be read: its length is not known")
            self._sizes[path] = int(found)
        return self._sizes[path]

    def _system(self) -> tuple[Any, str]:
        """The file system of this process: an event loop that a fork copied would hang."""
        process = os.getpid()
        if process not in self._systems:
            import fsspec

            options = system_options(self.name.partition(":")[0])
            self._systems = {process: fsspec.core.url_to_fs(self.name, skip_instance_cache=True, **options)}
        return self._systems[process]

    def _part(self, path: str, length: int, block: int, first: int, last: int) -> bytes:
        expected = min(self._block, length - block * self._block)
        name = hashlib.sha256(f"{self.name}/{path}:{length}:{self._block}:{block}".encode()).hexdigest()[:40]
        file = self._cache / name[:2] / f"{name}.block"
        found = _read_part(file, expected, first, last)
        if found is not None:
            return found
        with self._lock:
            busy = self._busy.setdefault(file, threading.Lock())
        with busy:  # one thread fetches, the others wait for it
            found = _read_part(file, expected, first, last)
            if found is None:
                data = self._fetch(path, block * self._block, expected)
                self._keep(file, data)
                found = data[first:last]
        with self._lock:
            self._busy.pop(file, None)
        return found

    def _fetch(self, path: str, start: int, size: int) -> bytes:
        system, prefix = self._system()
        try:
            data = system.cat_file(f"{prefix}/{inside(path)}", start=start, end=start + size)
        except faults() as error:
            raise ShardError(
                f"{self.name}/{path} cannot be read at {start}: {error or type(error).__name__}"
            ) from error
        if len(data) != size:
            raise ShardError(f"{self.name}/{path} gave {len(data)} bytes for {size} at {start}")
        self.fetched_bytes += size
        return data

    def _keep(self, file: Path, data: bytes) -> None:
        with self._lock:
            self._unaccounted += len(data)
            if self._unaccounted > self._cache_bytes // 16:
                self._unaccounted = 0
                _shrink(self._cache, self._cache_bytes - self._cache_bytes // 16 - len(data))
        temporary = file.parent / f".tmp-{uuid.uuid4().hex}"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(file)
        except OSError as error:
            raise ShardError(f"the cache {self._cache} cannot be written: {error.strerror}; name another") from error
        finally:
            temporary.unlink(missing_ok=True)


def _read_part(file: Path, expected: int, first: int, last: int) -> bytes | None:
    """A part of a cached block; None where it is not there, or not whole."""
    try:
        with file.open("rb", buffering=0) as block:
            if os.fstat(block.fileno()).st_size != expected:
                return None
            data = os.pread(block.fileno(), last - first, first)
            os.utime(file)
    except FileNotFoundError:
        return None
    return data if len(data) == last - first else None


def _shrink(cache: Path, keep_bytes: int) -> None:
    """Remove the blocks that were used least recently until the rest fits. Readers with an open file are not harmed."""
    blocks = []
    for file in cache.glob("*/*.block"):
        try:
            state = file.stat()
        except FileNotFoundError:
            continue  # another process made room too
        blocks.append((state.st_mtime_ns, state.st_size, file))
    total = sum(size for _, size, _ in blocks)
    for _, size, file in sorted(blocks):
        if total <= keep_bytes:
            return
        file.unlink(missing_ok=True)
        total -= size
