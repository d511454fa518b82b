"""The progress bar: workers append to files in the work folder, the launcher reads them, so it works for any runner."""

import os
import threading
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

FOLDER = "progress"


def report(work: Path, what: str, amount: int) -> None:
    """Say that `amount` frames are known of (`found`) or done with (`decode`). One short append, a file a process."""
    folder = work / FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / f"{os.getpid()}.log").open("a") as file:
        file.write(f"{what} {amount}\n")


class Watcher:
    """Shows frames done of frames found, with the time left, while a pipeline runs elsewhere."""

    def __init__(self, work: Path, sources: int, quiet: bool):
        self._folder, self._quiet = work / FOLDER, quiet
        self._sources = sources
        self._read: dict[Path, int] = {}
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
        while not self._stop.wait(0.5):
            self.poll()

    def poll(self) -> None:
        """Read what was appended since the last look."""
        for path in self._folder.glob("*.log"):
            with path.open() as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind("\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                what, amount = line.split()
                self.totals[what] = self.totals.get(what, 0) + int(amount)
        known, probed = self.totals["found"], self.totals["sources"]
        text = f"{probed} of {self._sources} sources probed" if probed < self._sources else "building"
        # as long as not all sources are probed, the rest is taken to be like these
        total = round(known * self._sources / probed) if probed else None
        self._bar.update(self._task, completed=self.totals["decode"], total=total, description=text)
