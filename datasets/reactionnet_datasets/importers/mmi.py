"""MMI Facial Expression Database: posed and spontaneous displays, coded with the phases of action units, or an emotion.

Pantic et al., ICME 2005; Valstar and Pantic, 2010. EULA at mmifacedb.eu; nothing is downloaded. Reads the release as public
readers show it; files are told apart by what is in them, as their names vary:

    Sessions/1/S001-001.avi              720x576, 24 or 25 fps; or a still
    Sessions/1/S001-001-oao_aucs.xml     <ActionUnit Number="12"><Marker Frame="14" Type="1"/>...: frames count from 1
    Sessions/1/S001-001.xml              <Metatag Name="Emotion" Value="4"/>: 1 anger 2 disgust 3 fear 4 happiness
    Sessions/1/session.xml               5 sadness 6 surprise; <track view="0"> frontal, "2" two views side by side

A marker holds until the next: 0 neutral, 1 onset, 2 apex, 3 offset, in `au_phase_12`; `au_occ_12` is 1 in all but neutral.
Before the first marker nothing is known (`not_annotated`), and so it is of action units that a session does not list.
Emotions beyond 6 are other states, masked `invalid_code`. There is no official split; `mmi-10fold-ours-v1` has ten folds
of subjects, who are known by the names of files (`S001-...`) or by session.xml's `<subject id>`.

Where the reference leaves something open: the session's number is the video's name. The emotion is a session's; where
action units are coded, `expression` is valid at their apex frames alone, as readers choose pictures, and masked
`rule_gave_none` at the others (`--expression session`: at all). An action unit's code that is no whole number (`12L`) is
masked `invalid_code` in the column of its number with the text beside it; one without a number, or beside the same number
in full, stands in the record's provenance (`other_codes`). Markers behind the video's end, and two for one frame, of which
the later counts, are annotation errors and are counted. A dual view is stored as it is, and the provenance says
`view: dual`; `--dual halves` cuts it into two people `left` and `right`, without knowing which is frontal. Which tracks are
turned is not said anywhere known: videos higher than wide are counted, and `--turn 12=90,40=270` turns sessions clockwise.
Of a still, the emotion is imported.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from reactionnet_datasets.about import CONFIRMED, About, folds_of, one_of
from reactionnet_datasets.clip import Clip, Pictures, Video, one, per_frame
from reactionnet_datasets.labels import CLASSES
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.release_videos import by_name, facts_of
from reactionnet_datasets.sample import Label

EMOTIONS = dict(enumerate(CLASSES["mmi6"], 1))
PHASES = CLASSES["phase4"]
APEX = PHASES.index("apex")
VIEWS = {"0": "frontal", "2": "dual"}

ABOUT = About(
    name="mmi",
    title="MMI: displays of single action units and of emotions, coded with their phases",
    markers=("Sessions/*/*",),
    terms="EULA of each user; research only; no redistribution",
    ask="mmifacedb.eu",
    license="LicenseRef-MMI",
    papers=("ReactioNet (DRR)",),
    status=CONFIRMED,
    listed=False,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    expression: str = "apex"
    dual: str = "whole"
    turn: str = ""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the files of a session say. `units`: the code of an action unit as written, and (frame, type) of its markers."""

    units: Sequence[tuple[str, Sequence[tuple[int, str]]]]
    emotion: str | None
    views: Sequence[Mapping[str, str]]
    subject: str | None


# value, mask, code as written where it is masked
Cell = tuple[int | None, str, str | None]
_UNKNOWN: Cell = (None, "not_annotated", None)


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a video or still, two where a dual view is cut. ReleaseError for XML that cannot be read."""
    one_of("expression", options.expression, ("apex", "session"))
    one_of("dual", options.dual, ("whole", "halves"))
    turns = _turns(options.turn)
    top = release.first("Sessions")
    folders = [path for path in release.listing(top) if path.is_dir()]
    for folder in (path for path in folders if not path.name.isdecimal()):
        release.note("folders that are no session", release.relative(folder))
    folders = sorted((path for path in folders if path.name.isdecimal()), key=lambda path: int(path.name))
    if unknown := sorted(set(turns) - {path.name for path in folders}):
        raise ReleaseError(f"--turn {options.turn}: there is no session {unknown[0]}")
    if not folders:
        raise release.not_here("mmi: Sessions/1, Sessions/2, ...")
    for folder in folders:
        yield from _clips(release, folder, turns.get(folder.name, 0), options)


def _turns(text: str) -> dict[str, int]:
    turns = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d+)=(90|180|270)", part)
        if match is None:
            raise ReleaseError(f"--turn {text}: expected session=degrees, such as 12=90,40=270")
        turns[match[1]] = int(match[2])
    return turns


# -- XML -------------------------------------------------------------------------------------------------------------


def _session(release: Release, folder: Path) -> Session:
    units: list[tuple[str, list[tuple[int, str]]]] = []
    emotions: dict[str, Path] = {}
    views, subjects = [], []
    for path in release.listing(folder, "*.xml"):
        for element in _elements(release, path):
            name, facts = _plain(element.tag), {_plain(key): value.strip() for key, value in element.attrib.items()}
            if name == "actionunit":
                units.append((facts.get("number", ""), _markers(release, path, element)))
            elif name == "metatag" and facts.get("name", "").lower() == "emotion":
                emotions[facts.get("value", "")] = path
            elif name == "track":
                views.append(facts)
            elif name == "subject" and "id" in facts:
                subjects.append(facts["id"])
    if len(emotions) > 1:
        raise ReleaseError(
            f"{release.relative(folder)} has the emotions {' and '.join(sorted(emotions))}: which is it?"
        )
    return Session(
        units=units, emotion=next(iter(emotions), None), views=views, subject=subjects[0] if subjects else None
    )


def _elements(release: Release, path: Path) -> Iterator[ElementTree.Element]:
    try:
        return ElementTree.fromstring(path.read_bytes()).iter()
    except ElementTree.ParseError as error:
        raise ReleaseError(f"{release.relative(path)} is no whole XML: {error}") from error


def _plain(name: str) -> str:
    """Without a namespace, whatever the case."""
    return name.rpartition("}")[2].lower()


def _markers(release: Release, path: Path, unit: ElementTree.Element) -> list[tuple[int, str]]:
    found: dict[int, str] = {}
    for element in unit.iter():
        if _plain(element.tag) == "marker":
            facts = {_plain(key): value.strip() for key, value in element.attrib.items()}
            if not facts.get("frame", "").isdecimal() or "type" not in facts:
                raise ReleaseError(
                    f"{release.relative(path)}: a marker {dict(element.attrib)}; expected Frame and Type"
                )
            frame = int(facts["frame"])
            if found.get(frame, facts["type"]) != facts["type"]:
                release.note("two markers of an action unit for one frame", f"{release.relative(path)} frame {frame}")
            found[frame] = facts["type"]
    return sorted(found.items())


# -- clips -----------------------------------------------------------------------------------------------------------


def _clips(release: Release, folder: Path, turn: int, options: Options) -> Iterator[Clip]:
    session = _session(release, folder)
    videos = sorted(by_name(release, [folder]).values())
    stills = [] if videos else release.pictures(folder)
    if not videos and not stills:
        release.missing.append(f"{release.relative(folder)}/*.avi")
        return
    if not session.units and session.emotion is None:
        release.note("sessions without action units or an emotion", folder.name)
    subject = _subject(folder, session)
    if subject is None:
        release.note("sessions whose subject is not known", folder.name)
    folds = folds_of("mmi", subject) if subject is not None else {}
    for path in (*videos, *stills):
        name = folder.name if len(videos) + len(stills) == 1 else f"{folder.name}/{path.stem}"
        clip = _still(release, name, path, session) if stills else _video(release, name, path, session, turn, options)
        if clip is None:
            continue
        clip = replace(clip, subject=subject, folds=folds)
        if clip.facts.get("view") == "dual" and options.dual == "halves" and isinstance(clip.media, Video):
            yield from _halves(release, clip)
        else:
            yield clip


def _subject(folder: Path, session: Session) -> str | None:
    names = (match[1].upper() for path in sorted(folder.iterdir()) if (match := re.match(r"(S\d+)-", path.name, re.I)))
    return next(names, session.subject)


def _still(release: Release, name: str, path: Path, session: Session) -> Clip | None:
    file = release.file(path)
    if session.units:
        release.note("action units of stills, left out", release.relative(path), len(session.units))
    if file is None:
        return None
    media = Pictures(files=(file,))
    return Clip(video=name, frames=(1,), first_frame_number=1, media=media, labels={"expression": _emotion(session)})


def _video(release: Release, name: str, path: Path, session: Session, turn: int, options: Options) -> Clip | None:
    file = release.file(path)
    facts = facts_of(release, file) if file is not None else None
    if file is None or facts is None:
        return None
    if facts.height > facts.width and not turn:
        release.note("videos higher than wide, perhaps turned (--turn SESSION=90)", file.name)
    num = facts.num_frames
    view = _view(session, path)
    units, others = _units(release, session, name, num)
    labels: dict[str, Label] = {}
    for au, cells in units.items():
        values, masks, raw = zip(*cells, strict=True)
        phases = [None if value is None else PHASES[value] for value in values]
        occurs = [None if value is None else int(value > 0) for value in values]
        labels[f"au_phase_{au}"] = per_frame("phase4", phases, masks, raw)
        labels[f"au_occ_{au}"] = replace(per_frame("au_occ", occurs, masks, raw), rule="phase:not neutral")
    labels["expression"] = _expression(release, session, units, num, name, options)
    return Clip(
        video=name,
        frames=range(1, num + 1),
        media=Video(file=file, places=range(num), turn=turn),
        fps=facts.fps,
        first_frame_number=1,
        labels=labels,
        facts={"frame_base": 1, "view": view, **({"other_codes": others} if others else {})},
    )


def _view(session: Session, path: Path) -> str:
    """Which view a video has: its own track's where tracks name files, else that of any."""
    own = [track for track in session.views if path.stem.lower() in " ".join(track.values()).lower()]
    views = {track["view"] for track in own or session.views if "view" in track}
    if "2" in views:
        return "dual"
    return ", ".join(VIEWS.get(view, view) for view in sorted(views)) or "unknown"


def _units(release: Release, session: Session, name: str, num: int) -> tuple[dict[int, list[Cell]], list[str]]:
    """Cells of each frame by action unit, and codes that have no column."""
    units: dict[int, list[Cell]] = {}
    odd: list[tuple[str, list[Cell]]] = []
    for code, markers in session.units:
        if not markers:
            release.note("action units without markers", f"session {name}, {code or 'no code'}")
            continue
        if behind := [frame for frame, _ in markers if frame > num]:
            release.note("markers behind the video's end", f"session {name}, AU {code}", len(behind))
        cells = _cells(markers, num)
        au = _whole(code)
        if au is None:
            odd.append((code, cells))
        else:
            units[au] = [_stronger(a, b) for a, b in zip(units[au], cells, strict=True)] if au in units else cells
    others = []
    for code, cells in odd:
        match = re.search(r"\d+", code)
        if match is None or int(match[0]) in units:
            others.append(code)
        else:
            units[int(match[0])] = [_UNKNOWN if cell == _UNKNOWN else (None, "invalid_code", code) for cell in cells]
        release.note("codes of action units that are no whole number", f"session {name}, {code or 'no code'}")
    return units, sorted(others)


def _whole(code: str) -> int | None:
    return int(float(code)) if re.fullmatch(r"\d+(\.0+)?", code) else None


def _cells(markers: Sequence[tuple[int, str]], num: int) -> list[Cell]:
    """A cell of each of `num` frames: a marker holds until the next."""
    cells = [_UNKNOWN] * num
    for place, (first, kind) in enumerate(markers):
        last = markers[place + 1][0] if place + 1 < len(markers) else num + 1
        known = kind in ("0", "1", "2", "3")
        cell: Cell = (int(kind), "valid", None) if known else (None, "invalid_code", kind)
        for frame in range(max(first, 1), min(last, num + 1)):
            cells[frame - 1] = cell
    return cells


def _stronger(a: Cell, b: Cell) -> Cell:
    """Of two codings of an action unit in one session, such as of two displays: that which is not neutral, an apex first."""
    if a[0] is None or b[0] is None:
        return a if b[0] is None else b
    return max(a, b, key=lambda cell: (cell[0] == APEX, bool(cell[0])))


def _emotion(session: Session) -> Label:
    """The session's emotion, for all of a clip."""
    if session.emotion is None:
        return one("mmi6", None)
    code = _whole(session.emotion)
    emotion = EMOTIONS.get(code) if code is not None else None
    return one("mmi6", emotion, None if emotion else "invalid_code", None if emotion else session.emotion)


def _expression(
    release: Release, session: Session, units: Mapping[int, Sequence[Cell]], num: int, name: str, options: Options
) -> Label:
    whole = _emotion(session)
    if options.expression == "session" or whole.value is None or not units:
        return whole
    apex = [any(cells[place][0] == APEX for cells in units.values()) for place in range(num)]
    if not any(apex):
        release.note("sessions with an emotion, but no action unit at its apex", name)
    values = [whole.value if here else None for here in apex]
    masks = ["valid" if here else "rule_gave_none" for here in apex]
    return replace(per_frame("mmi6", values, masks, [session.emotion] * num), rule="apex")


def _halves(release: Release, clip: Clip) -> Iterator[Clip]:
    if not isinstance(clip.media, Video):
        raise ValueError(f"{clip.video} is no video")
    facts = facts_of(release, clip.media.file)
    if facts is None:
        return
    half = facts.width // 2
    for track, x in (("left", 0), ("right", facts.width - half)):
        yield replace(clip, track=track, media=replace(clip.media, crop=(x, 0, half, facts.height)))
