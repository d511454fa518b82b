"""What can go wrong with a source, by name. Everything that is lost leaves one `DeadLetter`."""

import errno
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The one enumeration of reasons for which a source, or a part of it, is not in the data set."""

    BAD_ROW = "BAD_ROW"
    DUPLICATE_ID = "DUPLICATE_ID"
    LICENCE_UNREADABLE = "LICENCE_UNREADABLE"
    LICENCE_NOT_ALLOWED = "LICENCE_NOT_ALLOWED"
    CONSENT_MISSING = "CONSENT_MISSING"
    TAKEN_DOWN = "TAKEN_DOWN"
    FETCH_FAILED = "FETCH_FAILED"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    EMPTY_FILE = "EMPTY_FILE"
    NOT_A_VIDEO = "NOT_A_VIDEO"
    NO_VIDEO = "NO_VIDEO"
    UNREADABLE = "UNREADABLE"
    TRUNCATED = "TRUNCATED"
    DAMAGED = "DAMAGED"
    STATIC_PICTURE = "STATIC_PICTURE"
    NO_LAYOUT = "NO_LAYOUT"
    LAYOUT_AMBIGUOUS = "LAYOUT_AMBIGUOUS"
    NO_FACE = "NO_FACE"
    TOO_SHORT = "TOO_SHORT"
    TOO_LARGE = "TOO_LARGE"
    SPLIT_CONFLICT = "SPLIT_CONFLICT"
    TIMEOUT = "TIMEOUT"
    WORKER_CRASHED = "WORKER_CRASHED"
    MODEL_FAILED = "MODEL_FAILED"


# The gate refuses on purpose: these are not losses and do not count towards --max-loss.
REFUSALS = frozenset({Code.LICENCE_UNREADABLE, Code.LICENCE_NOT_ALLOWED, Code.CONSENT_MISSING, Code.TAKEN_DOWN})
# Trying again later may help; such letters are never cached.
RETRYABLE = frozenset({Code.FETCH_FAILED, Code.TIMEOUT, Code.WORKER_CRASHED, Code.MODEL_FAILED})


class SourceError(Exception):
    """A fault of one source: it costs that source (or a span of it), never the job."""

    def __init__(self, code: Code, message: str):
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


# A machine's fault, not a source's: the job stops, and nothing counts as lost.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class JobError(Exception):
    """A job that a runner says has failed, or that somebody cancelled there."""


def disk_full(said: str) -> JobError:
    """What a user is told of a full disk or a quota."""
    return JobError(
        f"a disk is full ({said}): free some where the output, the work folder and $TMPDIR lie; the same command goes on"
    )


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One loss: which source, where it stood in the manifest, why, and what span of time is missing.

    `kept` is true where the rest of the source was built all the same.
    """

    video_id: str
    line: int | None
    stage: str
    code: Code
    message: str
    retryable: bool
    lost_start_s: float | None = None
    lost_end_s: float | None = None
    kept: bool = False
