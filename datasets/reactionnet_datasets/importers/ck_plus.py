"""CK+, extended Cohn-Kanade: 593 posed sequences of 123 subjects from neutral to the peak, 327 with one of seven emotions.

Lucey et al., CVPR workshops 2010. Access by a signed form of the Affect Analysis Group; nothing is downloaded. Reads

    cohn-kanade-images/S005/001/S005_001_00000011.png               frames count from 1; the last is the peak
    Emotion/S005/001/S005_001_00000011_emotion.txt                  "   3.0000000e+00", of the peak alone
    FACS/S005/001/S005_001_00000011_facs.txt                        action unit and intensity a line, of the peak alone
    Landmarks/S005/001/S005_001_00000011_landmarks.txt              68 lines "x y", of every frame

or the same in the folders that the archives unpack to (extended-cohn-kanade-images/, Emotion_labels/, FACS_labels/).

Codes: 0 neutral 1 anger 2 contempt 3 disgust 4 fear 5 happiness 6 sadness 7 surprise. Frames without a file are
`not_annotated`, never neutral. An action unit is present if it is listed: intensity 0 means present but not graded, so
`au_occ_4` is 1 and `au_int_4` is masked with `raw` "0". At a coded peak every other unit that CK+ codes is absent, 0. Where
the reference leaves something open: a label belongs to the frame that its file name counts; one that is not the last is
counted, one without a picture is missing, and so is a landmark file without a picture. Gaps in the numbers are counted.
`--expression last3` gives the peak's emotion to the last three frames and neutral to the first, as most papers train; such
labels carry the rule `ckplus:last3`. Frames are 1/30 s apart (Kanade et al., FG 2000). Whether a subject may be shown in
publications is not in the release: `publishable` is "unknown". Nobody published folds: `ckplus-10fold-ours-v1`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reactionnet_datasets.about import CONFIRMED, About, Known, class_at, folds_of, one_of
from reactionnet_datasets.clip import Clip, Numbers, Pictures, per_frame
from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.sample import Label

IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
CLASSES = classes_of("ckplus8")
# What CK+ codes (Lucey et al., Table 1).
AUS = (
    1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 23, 24, 25, 26, 27, 28, 29, 31, 34, 38, 39, 43,
)  # fmt: skip
FPS = 30.0
_SUBJECT, _SEQUENCE = "S[0-9]*", "[0-9]*"
_NUMBER = re.compile(r"(S\d+)_(\d+)_(\d+)", re.IGNORECASE)

ABOUT = About(
    name="ck_plus",
    title="CK+, extended Cohn-Kanade: posed sequences from neutral to the peak of an expression",
    markers=("|".join(f"{folder}/{_SUBJECT}" for folder in IMAGES), f"Emotion/{_SUBJECT}|Emotion_labels/Emotion/{_SUBJECT}",
             f"FACS/{_SUBJECT}|FACS_labels/FACS/{_SUBJECT}"),
    terms="signed form; research; only some subjects may appear in publications; no redistribution",
    ask="the Affect Analysis Group, University of Pittsburgh",
    license="LicenseRef-CKPlus",
    papers=("ReactioNet (DRR)",),
    status=CONFIRMED,
    known=(
        Known(what="sequences", count=593, of="videos"),
        Known(what="subjects", count=123, of="subjects"),
        Known(what="sequences with an emotion", count=327, of="videos", where={"expression_mask": "valid"}),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    expression: str = "peak"


@dataclass(frozen=True, kw_only=True)
class Coded:
    """What the release says of a sequence: its emotion and action units with the frames that they are of."""

    emotion: tuple[int, int] | None  # frame, code
    units: tuple[int, dict[int, float]] | None  # frame, intensity by action unit


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a sequence."""
    one_of("expression", options.expression, ("peak", "last3"))
    emotions = _files(release, release.first("Emotion", "Emotion_labels/Emotion"), "_emotion", ".txt")
    units = _files(release, release.first("FACS", "FACS_labels/FACS"), "_facs", ".txt")
    points = _files(release, landmarks := _landmarks(release), "_landmarks", ".txt")
    if landmarks is not None and not points:
        release.note("folders without a sequence's files", release.relative(landmarks))
    top = release.first(*IMAGES)
    pictures = _files(release, top, "", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
    coded = {
        name: Coded(emotion=_emotion(release, emotions.get(name, {})), units=_units(release, units.get(name, {})))
        for name in sorted(pictures.keys() | emotions.keys() | units.keys() | points.keys())
    }
    aus = sorted({au for one in coded.values() if one.units for au in one.units[1]} | set(AUS))
    for name, of_sequence in coded.items():
        if of_sequence.emotion is None:
            release.note("sequences without an emotion", name)
        if of_sequence.units is None:
            release.note("sequences without action units", name)
        clip = _clip(
            release, release.relative(top), name, pictures.get(name, {}), of_sequence, points.get(name, {}), aus
        )
        if clip is not None:
            yield _with_last_three(clip, of_sequence) if options.expression == "last3" else clip


def _landmarks(release: Release) -> Path | None:
    folder = release.find("Landmarks/Landmarks") or release.find("Landmarks")
    if folder is None:
        release.note("folders that lack", "Landmarks")
    return folder


def _files(release: Release, top: Path | None, suffix: str, *extensions: str) -> dict[str, dict[int, Path]]:
    """sequence (`S005_001`) -> frame -> file, of folders such as S005/001. ReleaseError for a name that says else."""
    found: dict[str, dict[int, Path]] = {}
    for subject in release.listing(top, _SUBJECT) if top is not None else ():
        for sequence in release.listing(subject, _SEQUENCE) if subject.is_dir() else ():
            name = f"{subject.name}_{sequence.name}".upper()
            for path in release.listing(sequence) if sequence.is_dir() else ():
                if path.suffix.lower() not in extensions:
                    release.note("files of another kind", release.relative(path))
                    continue
                match = _NUMBER.fullmatch(path.stem.lower().removesuffix(suffix))
                if match is None or not path.stem.lower().endswith(suffix) or f"{match[1]}_{match[2]}".upper() != name:
                    raise ReleaseError(
                        f"{release.relative(path)}: expected a name such as {name}_00000011{suffix}{extensions[0]}"
                    )
                if (frame := int(match[3])) in found.setdefault(name, {}):
                    raise ReleaseError(f"{release.relative(path)}: frame {frame} twice")
                found[name][frame] = path
    return found


def _one_file(release: Release, files: dict[int, Path]) -> tuple[int, Path] | None:
    if len(files) > 1:
        paths = " and ".join(release.relative(path) for path in files.values())
        raise ReleaseError(f"{paths}: expected one of them, of the peak")
    return next(iter(files.items()), None)


def _emotion(release: Release, files: dict[int, Path]) -> tuple[int, int] | None:
    if (found := _one_file(release, files)) is None:
        return None
    frame, path = found
    words = release.text(path).split()
    code = release.whole(path, 1, words[0], "emotion") if len(words) == 1 else -1
    if class_at(CLASSES, code) is None:
        raise release.fault(path, 1, f"{' '.join(words) or 'nothing'}; expected one emotion, 0 to {len(CLASSES) - 1}")
    return frame, code


def _units(release: Release, files: dict[int, Path]) -> tuple[int, dict[int, float]] | None:
    if (found := _one_file(release, files)) is None:
        return None
    frame, path = found
    units: dict[int, float] = {}
    for line, text in enumerate(release.lines(path), 1):
        words = text.replace(",", " ").split()
        if len(words) != 2:
            raise release.fault(path, line, f"{text!r}; expected an action unit and its intensity")
        au, intensity = (
            release.whole(path, line, words[0], "action unit"),
            release.number(path, line, words[1], "intensity"),
        )
        if au < 1 or not 0 <= intensity <= 5 or au in units:
            raise release.fault(path, line, f"{text!r}; expected a new action unit, intensity 0 to 5")
        units[au] = intensity
    if not units:
        release.note("FACS files without an action unit, taken for none", release.relative(path))
        return None
    return frame, units


def _clip(
    release: Release,
    images: str,
    name: str,
    pictures: dict[int, Path],
    coded: Coded,
    points: dict[int, Path],
    aus: list[int],
) -> Clip | None:
    subject, _, sequence = name.partition("_")
    where = f"{images}/{subject}/{sequence}"
    labelled = {one[0] for one in (coded.emotion, coded.units) if one}
    for frame in sorted((labelled | points.keys()) - pictures.keys()):
        release.missing.append(f"{where}/{name}_{frame:08d}.png")
    if not pictures:
        return None
    frames = sorted(pictures)
    if frames != list(range(1, len(frames) + 1)):
        release.note("sequences with gaps in their numbers", where)
    for frame in sorted(labelled - {frames[-1]}):
        release.note("labels of a frame that is not the last", f"{name} frame {frame}")
    if points and (lacking := [frame for frame in frames if frame not in points]):
        release.note("frames without landmarks", f"{name} frame {lacking[0]}", len(lacking))
    landmarks = [_points(release, points[frame]) if frame in points else None for frame in frames]
    return Clip(
        video=name,
        subject=subject,
        frames=frames,
        media=Pictures(files=[release.file(pictures[frame]) for frame in frames]),
        fps=FPS,
        first_frame_number=1,
        labels=_labels(frames, coded, aus),
        folds=folds_of("ck_plus", subject),
        streams={"landmarks": Numbers(values=landmarks)} if points else {},
        facts={"frame_base": 1, "publishable": "unknown"},
    )


def _points(release: Release, path: Path) -> list[list[float]]:
    points = [
        [release.number(path, line, word, "landmark") for word in text.replace(",", " ").split()]
        for line, text in enumerate(release.lines(path), 1)
    ]
    if len(points) != 68 or any(len(point) != 2 for point in points):
        raise ReleaseError(f"{release.relative(path)}: expected 68 lines of x and y; found {len(points)} lines")
    return points


def _labels(frames: list[int], coded: Coded, aus: list[int]) -> dict[str, Label]:
    emotions: list[str | None] = [None] * len(frames)
    codes: list[str | None] = [None] * len(frames)
    if coded.emotion and coded.emotion[0] in frames:
        place = frames.index(coded.emotion[0])
        emotions[place], codes[place] = CLASSES[coded.emotion[1]], str(coded.emotion[1])
    labels = {"expression": Label(space="ckplus8", value=emotions, mask=_given(emotions), raw=_some(codes))}
    if coded.units is None or coded.units[0] not in frames:
        return labels
    place, units = frames.index(coded.units[0]), coded.units[1]
    for au in aus:
        occurrence: list[int | None] = [None] * len(frames)
        intensity: list[float | None] = [None] * len(frames)
        raw: list[str | None] = [None] * len(frames)
        occurrence[place] = int(au in units)
        if units.get(au) == 0:
            raw[place] = "0"  # present, but not graded
        else:
            intensity[place] = units.get(au, 0.0)
        labels[f"au_occ_{au}"] = per_frame("au_occ", occurrence)
        labels[f"au_int_{au}"] = per_frame("au_int", intensity, raw=raw)
    return labels


def _given(values: list) -> list[str]:
    return ["not_annotated" if value is None else "valid" for value in values]


def _some(codes: list[str | None]) -> list[str | None] | None:
    return codes if any(codes) else None


def _with_last_three(clip: Clip, coded: Coded) -> Clip:
    """The emotion on the last three frames and neutral on the first, if the sequence has an emotion."""
    if coded.emotion is None:
        return clip
    name, num = CLASSES[coded.emotion[1]], len(clip.frames)
    values = [name if num - place <= 3 else "neutral" if place == 0 else None for place in range(num)]
    label = replace(per_frame("ckplus8", values), rule="ckplus:last3")
    return replace(clip, labels={**clip.labels, "expression": label})
