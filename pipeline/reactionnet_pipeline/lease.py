"""One build at a time in an output folder: a lease file that names who holds it.

In a store it is taken and kept by conditional writes, so that of two that find it stale only one gets it.
"""

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from reactionnet_datasets.stores import NO_VERSION, Place, StoreError, StorePath

NAME = ".lease"
HEARTBEAT_S = 15.0
STALE_S = 120.0


class LeaseHeldError(Exception):
    """Another build works in this folder."""


class Lease:
    """Held inside a `with` block. A lease whose process is gone (same host) or silent (another host) is taken over."""

    def __init__(self, root: Place):
        self._path = root / NAME
        self._stop = threading.Event()
        process = psutil.Process()
        self._content = {"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}
        self._token, self._beats = uuid.uuid4().hex, 0

    def __enter__(self) -> "Lease":
        if isinstance(self._path, StorePath):
            self._take_object(self._path)
        else:
            self._take_file(self._path)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if isinstance(self._path, Path) or self._is_mine(self._path):
            self._path.unlink(missing_ok=True)

    def _take_file(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                break
            except FileExistsError:
                if (holder := self._holder()) is not None:
                    raise LeaseHeldError(holder) from None
                path.unlink(missing_ok=True)
        with os.fdopen(handle, "w") as file:
            json.dump(self._content, file)

    def _take_object(self, path: StorePath) -> None:
        while not path.replace_version(self._stale_version(path), self._text()):
            pass  # somebody was quicker: see who it is

    def _stale_version(self, path: StorePath) -> str:
        """The version of a lease that nobody holds any more. Raises LeaseHeldError."""
        try:
            version = path.stat().version
        except FileNotFoundError:
            return NO_VERSION
        if (holder := self._holder()) is not None:
            raise LeaseHeldError(holder)
        return version

    def _text(self) -> bytes:
        # a number that counts, so that each heartbeat is another version
        return json.dumps({**self._content, "token": self._token, "beats": self._beats}).encode()

    def _is_mine(self, path: StorePath) -> bool:
        with suppress(FileNotFoundError, ValueError, StoreError):
            return json.loads(path.read_bytes()).get("token") == self._token
        return False

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            if isinstance(self._path, StorePath):
                self._beat_object(self._path)
            else:
                with suppress(FileNotFoundError):
                    os.utime(self._path)

    def _beat_object(self, path: StorePath) -> None:
        """Say that the holder lives. Whoever took the lease over from one that fell silent keeps it."""
        with suppress(FileNotFoundError, StoreError):  # the store may be back before the lease is stale
            version = path.stat().version
            if self._is_mine(path):
                self._beats += 1
                path.replace_version(version, self._text())

    def _holder(self) -> str | None:
        """Who holds the lease, or None where nobody does any more."""
        try:
            age_s = time.time() - self._path.stat().st_mtime_ns / 1e9
            lease = json.loads(self._path.read_bytes())
            host, pid, started = lease["host"], int(lease["pid"]), float(lease["started"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return "an unreadable lease, just written" if age_s < HEARTBEAT_S else None
        alive = _runs(pid, started) if host == socket.gethostname() else age_s < STALE_S
        return f"process {pid} on {host}, last seen {age_s:.0f} s ago" if alive else None


def _runs(pid: int, started: float) -> bool:
    """Whether this very process runs: a number may have been given anew, and a killed process may lie uncollected."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 1
    except psutil.NoSuchProcess:
        return False
