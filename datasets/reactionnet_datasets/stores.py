"""Folders that may lie in an object store: `as_place("s3://bucket/set")` is used like a `Path`, and so is a `Path`.

`s3://` (s3fs) and `gs://` (gcsfs). A store has no rename and needs none: an object appears whole when its PUT is done, or
not at all. Each call is as few requests as it can be, nothing is remembered between calls, and what the libraries retry
is bounded; what then still fails is a `StoreError` that names the URL. `StorePath` has the part of `Path`'s interface that
a build needs; what native readers need is a file, and `local` lends one.
"""

import fnmatch
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import total_ordering
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SCHEMES = ("gs", "s3")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
ATTEMPTS = 5  # of a request that the store answers with 5xx, or not at all (gcsfs: 6)
RESUMES = 3  # of a request whose answer breaks off, each with so many attempts
CONNECT_S = 10
READ_S = 60  # without a byte, after which a request counts as failed
SCRATCH_BYTES = 32 << 30
ABANDONED_S = 86_400  # a temporary file that nobody wrote to for so long
BYTES, JSON = "application/octet-stream", "application/json"
NO_VERSION = ""  # the version of what is not there


class StoreError(OSError):
    """An object store did not do what it was asked to. The message names the URL."""


@dataclass(frozen=True, kw_only=True)
class Stat:
    """What a store says of an object; `version` changes with each replacement (ETag on S3, generation on GCS)."""

    st_size: int
    st_mtime_ns: int
    version: str


@total_ordering
class StorePath:
    """A place in an object store, named by its URL. `..` and `//` are letters of a key like all others."""

    __slots__ = ("_url",)

    def __init__(self, url: str):
        self._url = url.rstrip("/")

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"StorePath({self._url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and self._url == other._url

    def __lt__(self, other: "StorePath") -> bool:
        return self._url < other._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __truediv__(self, name: str) -> "StorePath":
        return StorePath(f"{self._url}/{name}")

    @property
    def name(self) -> str:
        return self._url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> "StorePath":
        return StorePath(self._url.rpartition("/")[0])

    def with_name(self, name: str) -> "StorePath":
        return self.parent / name

    def with_suffix(self, suffix: str) -> "StorePath":
        return self.parent / (self.stem + suffix)

    def resolve(self) -> "StorePath":
        return self

    def stat(self) -> Stat:
        """One request. FileNotFoundError where there is no such object; a folder is none."""
        with _said("be found", self._url):
            found = _system(self._url).info(self._url)
        if found["type"] != "file":
            raise FileNotFoundError(2, os.strerror(2), self._url)
        return _stat(found)

    def exists(self) -> bool:
        """Whether there is an object of just this name."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    is_file = exists

    def read_bytes(self) -> bytes:
        """The whole object as it is at one moment."""
        with _said("be read", self._url):
            return _system(self._url).cat_file(self._url)

    def write_bytes(self, data: bytes) -> None:
        """Put an object, replacing what is there."""
        with _said("be written", self._url):
            _system(self._url).pipe_file(self._url, data)

    def put(self, file: Path) -> None:
        """Put a local file, replacing what is there."""
        with _said("be written", self._url):
            _system(self._url).put_file(str(file), self._url)

    def replace_version(self, version: str, data: bytes) -> bool:
        """Put an object if what is there still has this version (NO_VERSION: if nothing is); False if it has not.

        True as well where just these bytes are there already: a repeated request may have been answered twice.
        """
        with _said("be written", self._url):
            put = _put_on_s3 if self._url.startswith("s3:") else _put_on_gcs
            if put(_system(self._url), self._url, version, data):
                return True
        try:
            return self.read_bytes() == data
        except FileNotFoundError:
            return False

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object."""
        try:
            with _said("be deleted", self._url):
                _system(self._url).rm_file(self._url)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def glob(self, pattern: str) -> Iterator["StorePath"]:
        """Objects in this folder whose name matches, in order; one listing of what begins like the pattern."""
        begin = pattern[: min([pattern.index(letter) for letter in "*?[" if letter in pattern], default=len(pattern))]
        found = self._find(begin)
        yield from (self / name for name in sorted(found) if "/" not in name and fnmatch.fnmatchcase(name, pattern))

    def _find(self, begin: str = "") -> dict[str, Stat]:
        with _said("be listed", self._url):
            system = _system(self._url)
            inside = system._strip_protocol(self._url) + "/"
            found = system.find(self._url, detail=True, **({"prefix": begin} if begin else {}))
        files = {path.removeprefix(inside): info for path, info in found.items() if path.startswith(inside)}
        return {name: _stat(info) for name, info in files.items() if info["type"] == "file"}


Place = Path | StorePath


def as_place(text: str | Place) -> Place:
    """The folder or file that a text names: a path, or `s3://BUCKET/KEY`, `gs://BUCKET/KEY`.

    ValueError for other schemes, a bucket alone, credentials, or chained file systems (`a::b`).
    """
    if isinstance(text, StorePath | Path):
        return text
    if not _URL.match(text):
        return Path(text)
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise ValueError(f"a {parts.scheme} URL holds credentials: leave them to the environment")
    if "::" in text:
        raise ValueError(f"{text!r} chains file systems; name the place itself")
    if parts.scheme == "file":
        return Path(parts.path)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{text!r}: expected a path, gs:// or s3://")
    if not parts.netloc or not parts.path.strip("/"):
        raise ValueError(f"{text!r} names no place in a bucket; expected such as {parts.scheme}://BUCKET/FOLDER")
    return StorePath(text)


def version_of(path: Place) -> str:
    """What changes when a file does: its size with its time of change, or an object's version. FileNotFoundError."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.version if isinstance(stat, Stat) else stat.st_mtime_ns}"


def files_below(folder: Place) -> dict[str, int]:
    """Size of every file in a folder and its folders, by its path relative to it; none where there is no such folder."""
    if isinstance(folder, StorePath):
        return {name: stat.st_size for name, stat in folder._find().items()}
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another may tidy up
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found


# Talking to a store -------------------------------------------------------------------------------------------------

_systems: dict[tuple[int, str], Any] = {}
_opening = threading.Lock()


def system_options(scheme: str) -> dict[str, Any]:
    """How a file system of fsspec is opened here: nothing is cached, one request reads an object, retries are bounded."""
    if scheme == "s3":
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        # a large object read in several requests could be two versions of it
        return {"max_concurrency": 1, "use_listings_cache": False,
                "config_kwargs": {"retries": retries, "read_timeout": READ_S, "connect_timeout": CONNECT_S}}  # fmt: skip
    if scheme == "gs":
        import aiohttp

        # gcsfs' own timeout is none at all
        return {"use_listings_cache": False, "consistency": "size",
                "requests_timeout": aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=READ_S)}  # fmt: skip
    return {}


def _system(url: str) -> Any:
    """The file system of this process: an event loop that a fork copied would hang."""
    scheme = url.partition(":")[0]
    with _opening:
        if (os.getpid(), scheme) not in _systems:
            if scheme == "s3":
                from s3fs import S3FileSystem as FileSystem
            else:
                # the class that `fsspec` offers asks for a bucket's kind beside each request
                from gcsfs.core import GCSFileSystem as FileSystem
            system = FileSystem(skip_instance_cache=True, **system_options(scheme))
            system.retries = RESUMES  # gcsfs has a fixed number
            _systems[os.getpid(), scheme] = system
        return _systems[os.getpid(), scheme]


_FAULTS = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp": ("ClientError",),
    "gcsfs.retry": ("HttpError", "ChecksumError"),
    "google.auth.exceptions": ("GoogleAuthError",),
}


def faults() -> tuple[type[Exception], ...]:
    """What the libraries raise where a store fails, beside OSError; of those that are loaded."""
    loaded = [(sys.modules[module], names) for module, names in _FAULTS.items() if module in sys.modules]
    return (
        OSError,
        ValueError,
        ImportError,
        *(getattr(module, n) for module, names in loaded for n in names if hasattr(module, n)),
    )


@contextmanager
def _said(what: str, url: str) -> Iterator[None]:
    """A fault in this block becomes one that names the URL. Missing objects are FileNotFoundError, as in a folder."""
    try:
        yield
    except FileNotFoundError:
        if what == "be written":
            raise StoreError(f"{url} cannot be written: there is no such bucket") from None
        raise FileNotFoundError(2, os.strerror(2), url) from None
    except faults() as error:
        if isinstance(error, ImportError):
            extra = "aws" if url.startswith("s3:") else "gcp"
            raise StoreError(f"{url} cannot {what}: {error}; pip install 'reactionnet[{extra}]'") from error
        said = "no answer in time" if isinstance(error, TimeoutError) else str(error).strip() or type(error).__name__
        raise StoreError(f"{url} cannot {what}: {said}") from error


def _stat(info: Mapping[str, Any]) -> Stat:
    changed = info.get("LastModified") or info.get("updated") or info.get("mtime")
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed.replace("Z", "+00:00"))
    version = info.get("generation") or info.get("ETag") or info.get("etag")
    return Stat(
        st_size=int(info["size"]), st_mtime_ns=int(changed.timestamp() * 1e9) if changed else 0, version=str(version)
    )


def _put_on_s3(system: Any, url: str, version: str, data: bytes) -> bool:
    condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
    from botocore.exceptions import ClientError

    try:
        system.pipe_file(url, data, **condition)
    except (OSError, ClientError) as error:
        cause = error if isinstance(error, ClientError) else error.__cause__
        code = cause.response["Error"].get("Code") if isinstance(cause, ClientError) else None
        # 409: another conditional write of the object is under way; 404: what was to be replaced is gone
        if code in ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey"):
            return False
        raise
    return True


def _put_on_gcs(system: Any, url: str, version: str, data: bytes) -> bool:
    bucket, _, key = url.removeprefix("gs://").partition("/")
    target = system.base.replace("/storage/v1/", "/upload/storage/v1/") + "b/{}/o"
    line = uuid.uuid4().hex  # between the parts
    head = f"--{line}\nContent-Type: {JSON}\n\n{json.dumps({'name': key})}\n--{line}\nContent-Type: {BYTES}\n\n"
    try:
        system.call(
            "POST", target, bucket, uploadType="multipart", ifGenerationMatch=version or "0",
            headers={"Content-Type": f"multipart/related; boundary={line}"},
            data=head.encode() + data + f"\n--{line}--".encode(),
        )  # fmt: skip
    except FileExistsError:  # gcsfs' word for 412
        return False
    return True


# Files for native readers -------------------------------------------------------------------------------------------


@contextmanager
def local(path: Place) -> Iterator[Path]:
    """A file on this machine with the content of `path`, for as long as the block runs.

    A copy of an object is kept in a scratch folder below the system's temporary one (TMPDIR), named by URL, size and
    version, for whoever needs it next on this machine. At most 32 GiB, or half of what is free, are kept: what was used
    least recently goes first, but never what somebody is using. Raises FileNotFoundError, StoreError.
    """
    if not isinstance(path, StorePath):
        yield path
        return
    for _ in range(ATTEMPTS):
        stat = path.stat()
        name = hashlib.sha256(f"{path}:{stat.st_size}:{stat.version}".encode()).hexdigest()[:32] + path.suffix[:8]
        file = scratch() / name
        with ExitStack() as stack:
            if _held(file, stack) or (_fetched(path, stat, file) and _held(file, stack)):
                yield file
                return
    raise StoreError(f"{path} cannot be read: it changes all the time, or is not as long as the store says")


def scratch() -> Path:
    """This user's folder for copies of objects, and for files on their way to a store."""
    owner = os.getuid() if hasattr(os, "getuid") else "scratch"
    folder = Path(tempfile.gettempdir()) / f"reactionnet-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    return folder


def _held(file: Path, stack: ExitStack) -> bool:
    """Keep a file from being tidied away until the stack is closed; False where there is none."""
    try:
        held = stack.enter_context(file.open("rb"))
    except FileNotFoundError:
        return False
    _lock(held, shared=True)
    with suppress(FileNotFoundError):  # tidied away between the two lines above
        if os.path.samestat(os.fstat(held.fileno()), file.stat()):
            os.utime(file)
            return True
    return False


def _fetched(path: StorePath, stat: Stat, file: Path) -> bool:
    """Copy an object to a file, once for all processes that ask for it; False where it changed meanwhile."""
    turn = file.with_name(file.name + ".turn")
    temporary = file.with_name(f".tmp-{uuid.uuid4().hex}")
    with turn.open("wb") as waiting:
        _lock(waiting, shared=False)
        try:
            if file.exists():
                return True
            _make_room(file.parent, stat.st_size)
            with _said("be read", str(path)):
                _system(str(path)).get_file(str(path), str(temporary))
            if temporary.stat().st_size != stat.st_size or path.stat() != stat:
                return False
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
            turn.unlink(missing_ok=True)
    return True


_unseen = [SCRATCH_BYTES]  # bytes that this process fetched since it last looked at what is kept


def _make_room(folder: Path, needed: int) -> None:
    _unseen[0] += needed
    if _unseen[0] <= min(SCRATCH_BYTES, shutil.disk_usage(folder).free) // 64:
        return  # a look costs a moment for each file, of which there may be very many
    _unseen[0] = 0
    found = []
    for path in (path for path in folder.iterdir() if not path.is_dir()):
        with suppress(FileNotFoundError):  # another process tidies up too
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    kept = sum(size for _, size, _ in found)
    most = min(SCRATCH_BYTES, (shutil.disk_usage(folder).free + kept) // 2)
    now = time.time()
    for changed, size, path in sorted(found):
        young = now - changed < ABANDONED_S
        if path.suffix == ".turn" or (path.name.startswith(".tmp-") and young):
            continue
        if kept + needed <= most and not path.name.startswith(".tmp-"):
            continue
        with suppress(FileNotFoundError), path.open("rb") as file:
            if _lock(file, shared=False, wait=False):
                path.unlink()
                kept -= size


def _lock(file: Any, shared: bool, wait: bool = True) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows, where a file that is open cannot be deleted anyway
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
