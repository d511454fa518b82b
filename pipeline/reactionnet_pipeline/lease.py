"""One build at a time in an output folder: a lease file that names who holds it."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

NAME = ".lease"
HEARTBEAT_S = 15.0
STALE_S = 120.0


class LeaseHeldError(Exception):
    """Another build works in this folder."""


class Lease:
    """Held inside a `with` block. A lease whose process is gone (same host) or silent (another host) is taken over."""

    def __init__(self, root: Path):
        self._path = root / NAME
        self._stop = threading.Event()

    def __enter__(self) -> "Lease":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                break
            except FileExistsError:
                if (holder := self._holder()) is not None:
                    raise LeaseHeldError(holder) from None
                self._path.unlink(missing_ok=True)
        process = psutil.Process()
        with os.fdopen(handle, "w") as file:
            json.dump({"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}, file)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(FileNotFoundError):
                os.utime(self._path)

    def _holder(self) -> str | None:
        """Who holds the lease, or None where nobody does any more."""
        try:
            age_s = time.time() - self._path.stat().st_mtime
            lease = json.loads(self._path.read_text())
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
