"""A folder of face pictures without labels, such as ABAW6 (paper) pre-trains its masked autoencoder on.

Any tree of pictures (jpg, png, bmp, tif, gif, webp), for AffectNet, CASIA-WebFace, CelebA, IMDB-WIKI or WebFace260M. One
clip a picture, named by its path without the extension. `--subjects folder` takes the folder's name as the subject, as
CASIA-WebFace has it; `--split train|val|test|none` (train without) says where all of them go. Terms are those of the
pictures' owners. Files that are no pictures are counted; a picture that is empty or does not decode is an error, and so is
an archive that was not unpacked, as nothing says what it holds. The release of a data set that has an importer of its own
is read as pictures too, and a note says what it looks like.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.about import CONFIRMED, About, one_of
from reactionnet_datasets.clip import Clip, Pictures
from reactionnet_datasets.release import PICTURE_SUFFIXES, SHOWN, Release, ReleaseError
from reactionnet_datasets.release_root import looks_like

ABOUT = About(
    name="image_folder",
    title="any folder of face pictures, without labels",
    markers=(),
    terms="those of the pictures' owners",
    ask="the pictures' owners",
    license="LicenseRef-Unknown",
    papers=("ABAW6",),
    status=CONFIRMED,
    listed=False,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    subjects: str = "none"
    split: str = "train"


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a picture, folder by folder."""
    one_of("subjects", options.subjects, ("none", "folder"))
    one_of("split", options.split, ("train", "val", "test", "none"))
    for name in looks_like(release, ABOUT.name):
        release.note("data sets that ROOT looks like, whose labels are left out", name)
    for folder in _folders(release, release.root):
        pictures = release.pictures(folder)
        stems = Counter(path.stem for path in pictures)
        if pictures and options.subjects == "folder" and folder == release.root:
            raise release.not_here("image_folder: with --subjects folder, every picture in a subject's folder")
        for path in pictures:
            name = release.relative(path)
            yield Clip(
                video=name if stems[path.stem] > 1 else name[: -len(path.suffix)],
                subject=folder.name if options.subjects == "folder" else None,
                frames=(0,),
                media=Pictures(files=(release.file(path),)),
                splits={} if options.split == "none" else {"all": options.split},
            )


def _folders(release: Release, folder: Path) -> Iterator[Path]:
    if packed := release.packed(levels=0, below=folder):
        raise ReleaseError(f"{', '.join(packed[:SHOWN])}: not unpacked; unpack them, or move them away if you have")
    yield folder
    for path in release.listing(folder):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            continue  # not asked for what it is, as there may be millions
        if not path.is_dir():
            release.note("files that are no pictures", release.relative(path))
        elif path.is_symlink():  # it may lead round in a circle
            release.note("linked folders, left out", release.relative(path))
        else:
            yield from _folders(release, path)
