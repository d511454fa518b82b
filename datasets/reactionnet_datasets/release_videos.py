"""Videos and sounds of a release: found by what they are called, looked at, and counted as missing where unreadable."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from reactionnet_datasets.clip import File
from reactionnet_datasets.media import MediaError, VideoFacts, video_facts
from reactionnet_datasets.release import Release, ReleaseError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv")
_STREAMED = 0xFFFF0000  # a wav that was written to a pipe does not know its length
SOUNDS = (".wav", ".mp3", ".m4a", ".flac", ".ogg", ".aac")


def by_name(release: Release, folders: Iterable[Path], suffixes: Sequence[str] = VIDEOS) -> dict[str, Path]:
    """Files with these endings directly in the folders, by name without the ending (`plain_name`).

    ReleaseError where two files have one name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in release.listing(folder):
            if path.suffix.lower() in suffixes and path.is_file():
                name = plain_name(path.stem)
                if name in found:
                    raise ReleaseError(
                        f"{release.relative(found[name])} and {release.relative(path)} have one name: which is meant?"
                    )
                found[name] = path
    return found


def sound_of(release: Release, path: Path | str) -> File | None:
    """A listed file of sound; None, and a line in `missing`, where it is not there, or is a wav that is cut off.

    A decoder would take the rest of such a wav for all of it, and the clip would end in silence.
    """
    file = release.file(path)
    if file is None or not file.path.lower().endswith(".wav"):
        return file
    with (release.root / file.path).open("rb") as wav:
        head = wav.read(8)
    promised = int.from_bytes(head[4:8], "little") + len(head)
    if head[:4] == b"RIFF" and file.size < promised < _STREAMED:
        release.missing.append(f"{file.name} (has {file.size} bytes; its header says {promised})")
        return None
    return file


def plain_name(text: str) -> str:
    """A name by which files are joined to rows: without the brackets of `[00001]`; numbers without leading zeros."""
    name = re.sub(r"^\[(.*)\]$", r"\1", text.strip().strip("'\"").strip())
    return str(int(name)) if re.fullmatch(r"[0-9]+", name) else name.lower()


def facts_of(release: Release, file: File) -> VideoFacts | None:
    """Frames, rate and times of a video; None, and a line in `missing`, where it cannot be read or has no picture."""
    try:
        facts = video_facts(release.root, file)
    except MediaError as error:
        release.missing.append(f"{file.name} ({error})")
        return None
    if facts.num_frames < 1:
        release.missing.append(f"{file.name} (has no picture)")
        return None
    return facts
