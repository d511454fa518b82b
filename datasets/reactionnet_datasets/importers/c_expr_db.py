"""C-EXPR-DB: web videos with compound expressions; of 400, ABAW6 gave 56 without labels, all of them to be tested.

Kollias, CVPR Workshops 2023; ABAW6's compound expression challenge. EULA signed by a permanent academic, no redistribution;
nothing is downloaded. Reads what the challenge gave:

    1.mp4  2.avi ...                        in ROOT, or in a folder of it
    CVPR_6th_ABAW_CE_test_set_sample.txt    `1/00001.jpg,0`: the frames to be predicted, counted from 1
    cropped_aligned/1/00001.jpg             optional face crops (or cropped/), taken instead of the videos

Every listed frame is a test frame whose `compound` is masked `withheld`: the sample's numbers are no labels. Classes, in
the order of their codes: fearfully, happily, sadly, disgustedly, angrily surprised, sadly fearful, sadly angry.

**The format of the labels of all 400 videos is unconfirmed.** `--annotations FOLDER` reads one txt a video in Aff-Wild2's
manner, in it or in its Train_Set and Validation_Set: a header of class names, then a code a frame that counts along the
header, -1 masked `invalid_code`; such records say `format: unconfirmed` and have folds, `c_expr_db-5fold-ours-v1`. Names
beyond the seven (the full set has twelve and `other`) are taken as the header has them.

Where the reference leaves something open: frame n is picture n of the video in the order shown; pictures behind the last
listed frame are counted, not imported; a listed frame that the video lacks is an error, as is a video that no list names;
crops have gaps, which are counted. `--pictures videos` or `crops` decides where there are both.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.abaw import code_of, crops_of, label_lines, sampled, text_files
from reactionnet_datasets.about import PARTLY, UNCONFIRMED, About, Known, folds_of, one_of
from reactionnet_datasets.clip import Clip, Pictures, Video, label_at, per_frame
from reactionnet_datasets.labels import CLASSES, class_name
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.release_videos import VIDEOS, by_name, facts_of, plain_name
from reactionnet_datasets.sample import Label

SPACE = "cexpr7"
SAMPLE = "*_CE_test_set_*.txt"
CROPS = ("cropped_aligned", "cropped", "cropped_aligned_images", "cropped_images")

ABOUT = About(
    name="c_expr_db",
    title="C-EXPR-DB (ABAW6): web videos with compound expressions, given without labels",
    markers=(
        f"{SAMPLE}|*/{SAMPLE}",
        "|".join((*CROPS, *(f"{top}*{suffix}" for top in ("", "*/") for suffix in VIDEOS))),
    ),
    terms="EULA signed by a permanent academic; research only; no redistribution, shards included",
    ask="d.kollias@qmul.ac.uk",
    license="LicenseRef-C-EXPR-DB",
    papers=("ABAW6",),
    status=PARTLY,
    known=(Known(what="videos in test", count=56, of="videos", where={"split_all": "test"}),),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    annotations: str = "none"
    pictures: str = "auto"
    sound: bool = True
    fps: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Frames of a video and the label of each."""

    name: str
    frames: Sequence[int]
    label: Label
    split: str | None
    facts: Mapping[str, str]


def markers(options: Options) -> tuple[str, ...]:
    """The sample file, which annotations may stand for."""
    return ABOUT.markers if options.annotations == "none" else ()


def unread(release: Release) -> str | None:
    """Labels that an option would have read."""
    for path in release.listing(release.root):
        if path.is_dir() and re.search(r"annot|label", path.name, re.IGNORECASE):
            return f"labels in {path.name}, whose format is unconfirmed, are read by --annotations '{path.name}'"
    return None


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a video. ReleaseError for lists and videos that contradict each other."""
    one_of("pictures", options.pictures, ("auto", "videos", "crops"))
    if options.annotations == "none" and (labels := unread(release)):
        release.note("labels left out", labels)
    labelled = _labelled(release, options)
    videos = by_name(release, [path for path in (release.root, *release.listing(release.root)) if path.is_dir()])
    crops = _crop_folders(release, options)
    if not videos and crops is None:
        raise release.not_here("c_expr_db: videos such as 1.mp4, or crops such as cropped_aligned/1/00001.jpg")
    if unlisted := sorted(set(crops if crops is not None else videos) - set(labelled)):
        place = (crops if crops is not None else videos)[unlisted[0]]
        hint = f"; {labels}" if options.annotations == "none" and (labels := unread(release)) else ""
        raise ReleaseError(f"{release.relative(place)} is in no list: is the release complete?{hint}")
    for name, listed in sorted(labelled.items(), key=lambda item: (len(item[0]), item[0])):
        clip = _clip(release, name, listed, videos, crops, options)
        if clip is not None:
            yield clip


def _labelled(release: Release, options: Options) -> dict[str, Labelled]:
    folders = [release.root, *(path for path in release.listing(release.root) if path.is_dir())]
    samples = [p for p in text_files(release, folders) if re.search(r"_CE_test_set_", p.name, re.IGNORECASE)]
    if len(samples) > 1:
        raise ReleaseError(f"{' and '.join(map(release.relative, samples))}: keep one of them")
    found: dict[str, Labelled] = {}
    for path in samples:
        for name, frames in sampled(release, path).items():
            label = per_frame(SPACE, [None] * len(frames), ["withheld"] * len(frames))
            found[plain_name(name)] = Labelled(name=name, frames=frames, label=label, split="test", facts={})
    if options.annotations != "none":
        for listed in _annotated(release, options):
            name = plain_name(listed.name)
            if name in found and listed.split in ("train", "val"):
                raise ReleaseError(f"{listed.name} is in {listed.split}, and a test video of the sample file")
            found[name] = listed
    if not found:
        raise release.not_here(f"c_expr_db: {SAMPLE}, or annotations named by --annotations FOLDER")
    return found


def _annotated(release: Release, options: Options) -> Iterator[Labelled]:
    top = release.first(options.annotations)
    for folder in (top, *(path for path in release.listing(top) if path.is_dir())):
        match = re.match(r"(train|val|test)", folder.name.lower()) if folder != top else None
        for path in text_files(release, [folder]):
            header, lines = label_lines(release, path)
            classes = [class_name(name) for name in header if name]
            if len(set(classes)) != len(classes) or len(classes) < len(CLASSES[SPACE]):
                raise release.fault(path, 1, f"{','.join(header)}; expected the names of the classes, each once")
            space = SPACE if classes == list(CLASSES[SPACE]) else "compound"
            codes = [code_of(release, path, line, classes) for line in lines]
            values = [name for name, _ in codes]
            masks = ["valid" if name is not None else "invalid_code" for name in values]
            yield Labelled(
                name=path.stem,
                frames=range(1, len(codes) + 1),
                label=per_frame(space, values, masks, [code for _, code in codes]),
                split=match[1] if match else None,
                facts={"format": UNCONFIRMED},
            )


def _crop_folders(release: Release, options: Options) -> dict[str, Path] | None:
    """Plain name -> folder of crops; None where pictures come from the videos."""
    tops = [path for name in CROPS if (path := release.find(name)) is not None and path.is_dir()]
    if options.pictures == "videos" or (options.pictures == "auto" and not tops):
        return None
    if not tops:
        raise release.not_here(" or ".join(CROPS))
    return {plain_name(path.name): path for path in release.listing(tops[0]) if path.is_dir()}


def _clip(
    release: Release, name: str, listed: Labelled, videos: Mapping[str, Path], crops: Mapping[str, Path] | None,
    options: Options,
) -> Clip | None:  # fmt: skip
    places = list(range(len(listed.frames)))
    media: Pictures | Video
    # crops need no video: it tells their times
    file = release.file(videos.get(name) or f"{listed.name}.mp4") if crops is None or name in videos else None
    facts = facts_of(release, file) if file is not None else None
    if crops is not None:
        pictures = crops_of(release, crops[name]) if name in crops else {}
        if not pictures:
            release.missing.append(f"crops of {listed.name}")
            return None
        places = [place for place in places if listed.frames[place] in pictures]
        if lacking := len(listed.frames) - len(places):
            release.note("listed frames without a crop", listed.name, lacking)
        if spare := len(pictures) - len(places):
            release.note("crops of frames that are not listed", listed.name, spare)
        if not places:
            raise ReleaseError(f"{listed.name}: no crop has the number of a listed frame")
        media = Pictures(files=[release.file(pictures[listed.frames[place]]) for place in places])
    else:
        if file is None or facts is None:
            return None
        if spare := facts.num_frames - max(listed.frames):
            if spare < 0:
                release.missing.append(
                    f"{file.name} (has {facts.num_frames} pictures; {max(listed.frames)} are listed)"
                )
                places = [place for place in places if listed.frames[place] <= facts.num_frames]
            else:
                release.note("pictures of frames that are not listed", file.name, spare)
        if not places:
            return None
        media = Video(file=file, places=[listed.frames[place] - 1 for place in places])
    frames = [listed.frames[place] for place in places]
    fps = facts.fps if facts is not None else options.fps
    return Clip(
        video=listed.name,
        frames=frames,
        media=media,
        fps=fps,
        first_frame_number=1,
        t_s=[facts.t_s[frame - 1] for frame in frames] if facts and frames[-1] <= facts.num_frames else None,
        labels={"compound": label_at(listed.label, places)},
        splits={"all": listed.split} if listed.split else {},
        folds=folds_of("c_expr_db", name) if listed.split != "test" else {},
        sound=file if facts is not None and facts.has_sound and options.sound else None,
        facts={"frame_base": 1, **listed.facts},
    )
