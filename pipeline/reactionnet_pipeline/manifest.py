"""The manifest of sources: JSON Lines, CSV or Parquet in, checked rows and dead letters out.

A manifest is untrusted: ids, addresses, times and sizes are bounded and checked, and a bad row is named by its line and
reason while the good ones go on.
"""

import csv
import json
import math
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from reactionnet_datasets.sample import MAX_ESCAPED_ID, canonical_json, escape
from reactionnet_datasets.scenes import scene_of
from reactionnet_datasets.stores import Place, StorePath, as_place, local
from reactionnet_pipeline.errors import Code, DeadLetter
from reactionnet_pipeline.records import REACTION, STIMULUS, Layout, Pane

KNOWN = [
    "video_id",
    "uri",
    "license",
    "creator",
    "title",
    "consent",
    "sha256",
    "stimulus_scene",
    "sub_scene",
    "stimulus_id",
    "subject_ids",
    "start_s",
    "end_s",
    "layout",
]
SCHEMES = ("", "file", "gs", "s3")
MAX_LINE = 1 << 20
MAX_TEXT = 4096
MAX_NAME = 255  # bytes of one name in a path, on the usual file systems
MAX_REASON = 400
MAX_SUBJECTS = 32
MAX_PANES = 256
MAX_SIDE = 16384

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One good row. `uri` is as written, `location` absolute; `extra` is JSON of the fields that are not known."""

    line: int
    video_id: str
    uri: str
    location: str
    license: str
    creator: str | None = None
    title: str | None = None
    consent: str | None = None
    sha256: str | None = None
    stimulus_scene: str | None = None
    sub_scene: str | None = None
    stimulus_id: str | None = None
    subject_ids: tuple[str, ...] = ()
    start_s: float | None = None
    end_s: float | None = None
    layout: Layout | None = None
    extra: str | None = None


class ManifestError(ValueError):
    """The manifest as a whole cannot be read."""


def read_manifest(path: Place) -> Iterator[Row | DeadLetter]:
    """Rows in file order; a letter (BAD_ROW, DUPLICATE_ID) in the place of each bad one. ManifestError: no table at all."""
    seen: dict[str, int] = {}
    for line, raw in raw_rows(path):
        row = raw if isinstance(raw, str) else _checked(raw, line, path)
        if isinstance(row, str):
            video_id = raw.get("video_id") if isinstance(raw, dict) else None
            yield _letter(video_id if isinstance(video_id, str) else "", line, Code.BAD_ROW, row)
        elif (first := seen.setdefault(row.video_id, line)) != line:
            yield _letter(
                row.video_id, line, Code.DUPLICATE_ID, f"line {first} has the same video_id; that one is used"
            )
        else:
            yield row


def _letter(video_id: str, line: int, code: Code, message: str) -> DeadLetter:
    shown = CONTROL.sub("\ufffd", video_id)[:MAX_REASON]
    return DeadLetter(
        video_id=shown, line=line, stage="manifest", code=code, message=message[:MAX_REASON], retryable=False
    )


def raw_rows(
    path: Place, needed: Sequence[str] = ("video_id", "uri", "license")
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line or row number from 1, fields or the reason why there are none). ManifestError: no table at all."""
    if not path.is_file():
        raise ManifestError(f"no file at {path}: give a JSONL, CSV or Parquet file")
    with local(path) as file:
        yield from _rows_of(file, path, needed)


def _rows_of(path: Path, said: Place, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """`said` is how the user called the file, for messages."""
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson", ".json"):
        yield from _json_rows(path)
    elif kind in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",", strict=False)
            if not set(needed) <= set(reader.fieldnames or ()):
                raise ManifestError(f"{said} lacks columns: needs {', '.join(needed)}; has {reader.fieldnames}")
            yield from _csv_rows(reader)
    elif kind == ".parquet":
        yield from _parquet_rows(path, said)
    else:
        raise ManifestError(f"{said}: expected a name that ends in .jsonl, .csv, .tsv or .parquet")


def _csv_rows(reader: csv.DictReader) -> Iterator[tuple[int, dict[str, Any] | str]]:
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.reader.line_num, f"not CSV: {error}"
            continue
        if None in fields:
            yield reader.line_num, f"more cells than the header's {len(reader.fieldnames or ())}"
        else:
            yield reader.line_num, fields


def _parquet_rows(path: Path, said: Place) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(4096):
            for fields in batch.to_pylist():
                line += 1
                # a NaN is how data frames spell a missing value
                yield line, {n: v for n, v in fields.items() if not (isinstance(v, float) and math.isnan(v))}
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{said} is no Parquet file that can be read, after row {line}: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with path.open("rb") as file:
        for line, text in enumerate(_lines(file), 1):
            if text is None:
                yield line, f"longer than {MAX_LINE:,} bytes"
                continue
            if not text.strip():
                continue
            try:
                fields = json.loads(text.decode("utf-8-sig"), parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                yield line, f"not JSON: {error}"
                continue
            if isinstance(fields, dict):
                yield line, fields
            else:
                yield line, f"a JSON {type(fields).__name__} where an object was expected"


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines; None in the place of one that is too long to be a row."""
    while text := file.readline(MAX_LINE):
        if len(text) < MAX_LINE or text.endswith(b"\n"):
            yield text
        else:
            while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _checked(fields: dict[str, Any], line: int, path: Place) -> Row | str:
    fields = {name: value for name, value in fields.items() if value is not None and value != ""}
    try:
        video_id = _text(fields, "video_id", required=True)
        if len(escape(video_id)) > MAX_ESCAPED_ID:
            raise ValueError(f"video_id has {len(escape(video_id))} characters once escaped; at most {MAX_ESCAPED_ID}")
        uri = _text(fields, "uri", required=True)
        sha256 = _text(fields, "sha256")
        if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise ValueError(f"sha256 {sha256[:80]!r} is not 64 hexadecimal digits")
        start_s, end_s = _seconds(fields, "start_s"), _seconds(fields, "end_s")
        if start_s is not None and end_s is not None and end_s <= start_s:
            raise ValueError(f"end_s {end_s} is not after start_s {start_s}")
        if scene := _text(fields, "stimulus_scene"):
            scene_of(scene)
        return Row(
            line=line,
            video_id=video_id,
            uri=redacted(uri),
            location=_location(uri, path),
            license=_text(fields, "license", required=True),
            sha256=sha256.lower() if sha256 else None,
            subject_ids=_names(fields, "subject_ids"),
            start_s=start_s,
            end_s=end_s,
            layout=parse_panes(fields["layout"], "manifest") if "layout" in fields else None,
            **{
                n: _text(fields, n)
                for n in ["creator", "title", "consent", "stimulus_scene", "sub_scene", "stimulus_id"]
            },
            extra=_extra(fields),
        )
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return str(error)


def _extra(fields: Mapping[str, Any]) -> str | None:
    """Canonical JSON of what is not known; dates and the like, which only Parquet has, as text."""
    unknown = {str(name): value for name, value in fields.items() if name not in KNOWN}
    if not unknown:
        return None
    try:
        return canonical_json(json.loads(json.dumps(unknown, default=str))).decode()
    except ValueError as error:
        raise ValueError(f"further fields cannot be kept as JSON: {error}") from None


def _text(fields: Mapping[str, Any], name: str, required: bool = False) -> Any:
    value = fields.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is missing" if value is None else f"{name} {_shown(value)} is not a text")
    if len(value) > MAX_TEXT or CONTROL.search(value):
        raise ValueError(f"{name} {value[:40]!r}... is too long or has control characters")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


def _seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        seconds = float(value) if not isinstance(value, bool) else math.nan
    except OverflowError:
        seconds = math.inf
    except (TypeError, ValueError):
        raise ValueError(f"{name} {_shown(value)} is not a number of seconds") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name} {_shown(value)} is not a time from 0 on")
    return seconds


def _names(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of names; in CSV a JSON list, or names between semicolons."""
    value = fields.get(name, ())
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(";")
        except json.JSONDecodeError:
            raise ValueError(f"{name} {_shown(value)} is neither a JSON list nor names between semicolons") from None
    named = isinstance(value, list | tuple) and all(isinstance(item, str) and item.strip() for item in value)
    if not named or any(CONTROL.search(item) for item in value):
        raise ValueError(f"{name} {_shown(value)} is not a list of names")
    names = tuple(item.strip() for item in value)
    if len(names) > MAX_SUBJECTS or len(set(names)) != len(names) or any(len(item) > 128 for item in names):
        raise ValueError(
            f"{name} has {len(names)} entries; at most {MAX_SUBJECTS}, each once, each up to 128 characters"
        )
    return names


def _location(uri: str, manifest: Place) -> str:
    if "::" in uri:
        raise ValueError(f"uri {redacted(uri)!r}: '::' chains are refused")
    parts = urlsplit(uri)
    scheme = parts.scheme if "://" in uri else ""
    if scheme not in SCHEMES:
        raise ValueError(f"uri {redacted(uri)!r}: scheme {scheme!r} is not read; use a path, file://, gs:// or s3://")
    if scheme in ("gs", "s3"):
        if parts.username or parts.password:
            raise ValueError(f"uri {redacted(uri)!r} holds credentials: leave them to the environment")
        return str(as_place(uri))
    path = unquote(parts.path) if scheme == "file" else uri
    if "\0" in path or any(len(name.encode()) > MAX_NAME for name in path.split("/")):
        raise ValueError(f"uri {redacted(uri)[:80]!r}... holds a name that no file can have")
    if isinstance(manifest, StorePath) and not path.startswith("/"):
        return _beside(manifest, path)
    return os.path.abspath(path if isinstance(manifest, StorePath) else manifest.parent / path)  # noqa: PTH100 -- touches no file, unlike Path.resolve


def _beside(manifest: StorePath, path: str) -> str:
    """A relative path from a manifest in a store; it stays in the bucket."""
    scheme, _, folder = str(manifest.parent).partition("://")
    bucket, _, key = folder.partition("/")
    found = posixpath.normpath(f"{key}/{path}".lstrip("/"))
    if found.startswith("..") or found == ".":
        raise ValueError(f"uri {redacted(path)!r} leads out of the bucket of the manifest")
    return f"{scheme}://{bucket}/{found}"


def redacted(uri: str) -> str:
    """An address without user name, password or query, fit for logs and tables."""
    shown = re.sub(r"//[^/\s]*@", "//", uri)
    return re.sub(r"\?.*", "?...", shown) if "://" in shown else shown


def parse_panes(value: Any, origin: str) -> Layout:
    """A hand-made layout: a list of {role, x, y, w, h, start_s, end_s, shape?, z?}. ValueError says what is wrong."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"layout is not JSON: {error}") from None
    if isinstance(value, dict):
        value = value.get("panes")
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PANES or not all(isinstance(p, dict) for p in value):
        raise ValueError(f"layout needs a list of 1 to {MAX_PANES} panes with role, x, y, w, h, start_s, end_s")
    return Layout(panes=tuple(_pane(pane, number) for number, pane in enumerate(value)), origin=origin)


def _pane(fields: Mapping[str, Any], number: int) -> Pane:
    place = f"layout pane {number}"
    if fields.get("role") not in (STIMULUS, REACTION):
        raise ValueError(f"{place}: role {fields.get('role')!r}; expected {STIMULUS} or {REACTION}")
    try:
        x, y, w, h = (int(fields[side]) for side in "xywh")
        start_s, end_s = float(fields["start_s"]), float(fields["end_s"])
        z = int(fields.get("z", 0))
    except KeyError as error:
        raise ValueError(f"{place} lacks {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{place}: {error}") from None
    if min(x, y) < 0 or min(w, h) < 8 or max(x + w, y + h) > MAX_SIDE or not 0 <= start_s < end_s < math.inf:
        raise ValueError(f"{place}: {x},{y} {w}x{h} from {start_s} to {end_s} s is no rectangle in a picture and time")
    shape = fields.get("shape", "rect")
    if shape not in ("rect", "round", "cutout"):
        raise ValueError(f"{place}: shape {shape!r}; expected rect, round or cutout")
    return Pane(role=fields["role"], x=x, y=y, w=w, h=h, start_s=start_s, end_s=end_s, confidence=1.0, shape=shape, z=z)


def read_overrides(path: Place) -> dict[str, Layout]:
    """`--layouts`: JSON Lines of {video_id, panes: [...]}. ManifestError names the line that is wrong."""
    layouts = {}
    for line, fields in raw_rows(path):
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            layouts[_text(fields, "video_id", required=True)] = parse_panes(fields.get("panes"), "override")
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{path} line {line}: {error}") from error
    return layouts
