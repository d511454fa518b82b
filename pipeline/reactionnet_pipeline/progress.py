"""The progress bar: workers append to files in the work folder, the launcher reads them, so it works for any runner.

An object in a store cannot be appended to: there a process puts its lines anew each time, seldom, in an object of its own.
"""

import os
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reactionnet_datasets.stores import Place, StorePath

FOLDER = "progress"
STORE_EVERY_S = 5.0


def report(work: Place, what: str, amount: int, more: bool = False) -> None:
    """Say that `amount` frames are known of (`found`) or done with (`decode`). One short append, a file a process.

    `more` says that this process will report again soon, so that a store need not be told now.
    """
    folder = work / FOLDER
    if isinstance(folder, StorePath):
        _told(folder).add(what, amount, more)
        return
    folder.mkdir(exist_ok=True)
    with (folder / f"{os.getpid()}.log").open("a") as file:
        file.write(f"{what} {amount}\n")


class _Told:
    """What this process has told a store so far."""

    def __init__(self, folder: StorePath):
        self._object = folder / f"{uuid.uuid4().hex}.log"
        self._totals: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._last = time.monotonic()

    def add(self, what: str, amount: int, more: bool) -> None:
        with self._lock:
            self._totals[what] += amount
            if not more or time.monotonic() - self._last > STORE_EVERY_S:
                self._last = time.monotonic()
                text = "".join(f"{what} {total}\n" for what, total in sorted(self._totals.items()))
                self._object.write_bytes(text.encode())


_of_process: dict[tuple[int, StorePath], _Told] = {}


def _told(folder: StorePath) -> _Told:
    return _of_process.setdefault((os.getpid(), folder), _Told(folder))


class Watcher:
    """Shows frames done of frames found, with the time left, while a pipeline runs elsewhere."""

    def __init__(self, work: Place, sources: int, quiet: bool):
        self._folder, self._quiet = work / FOLDER, quiet
        self._sources = sources
        self._read: dict[Path, int] = {}
        self._said: dict[StorePath, dict[str, int]] = {}
        self.totals = {"found": 0, "decode": 0, "sources": 0}
        self._stop = threading.Event()

    def __enter__(self) -> "Watcher":
        for old in self._folder.glob("*.log"):
            old.unlink()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), disable=self._quiet, transient=False,
        )  # fmt: skip
        self._task = self._bar.add_task(f"0 of {self._sources} sources probed", total=None)
        self._bar.start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.poll()
        self._bar.stop()

    def _watch(self) -> None:
        while not self._stop.wait(0.5 if isinstance(self._folder, Path) else STORE_EVERY_S):
            self.poll()

    def read(self) -> dict[str, int]:
        """Totals, with what was said since the last look."""
        if isinstance(self._folder, StorePath):
            self._poll_store(self._folder)
        else:
            self._poll_files(self._folder)
        return self.totals

    def poll(self) -> None:
        """Bring the bar up to date."""
        self.read()
        known, probed = self.totals["found"], self.totals["sources"]
        text = f"{probed} of {self._sources} sources probed" if probed < self._sources else "building"
        # as long as not all sources are probed, the rest is taken to be like these
        total = round(known * self._sources / probed) if probed else None
        self._bar.update(self._task, completed=self.totals["decode"], total=total, description=text)

    def _poll_files(self, folder: Path) -> None:
        for path in folder.glob("*.log"):
            with path.open() as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind("\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                what, amount = line.split()
                self.totals[what] = self.totals.get(what, 0) + int(amount)

    def _poll_store(self, folder: StorePath) -> None:
        for path in folder.glob("*.log"):
            said = (line.split() for line in path.read_bytes().decode().splitlines())
            self._said[path] = {what: int(amount) for what, amount in said}
        self.totals |= sum(map(Counter, self._said.values()), Counter())
