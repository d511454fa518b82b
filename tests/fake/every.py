"""One tiny release of every data set, for tests that ask all importers the same."""

import csv
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fake.affectnet import write_later
from fake.affwild2 import write_abaw6
from fake.bp4d import write_bp4d, write_bp4d_plus
from fake.bu3dfe import write_bu3dfe
from fake.c_expr_db import write_c_expr_db
from fake.ck_plus import write_ck_plus
from fake.disfa import write_disfa
from fake.emotic import write_mat
from fake.emotionet import write_automatic
from fake.ferplus import write_tables
from fake.hume import write_abaw5, write_vidmimic2
from fake.mmi import write_mmi
from fake.others import write_gft, write_image_folder, write_reactionnet
from fake.rafdb import write_rafdb

SHARED = Path(__file__).resolve().parents[3] / "shared" / "rendered_facs"


def write_rendered_facs(root: Path, videos: tuple[str, ...] = ("S000_0",), whole: Path = SHARED) -> Path:
    """Some clips of the 288 that were rendered."""
    root.mkdir(parents=True)
    table = pq.read_table(whole / "labels.parquet")
    keep = np.isin(np.asarray(table["video_id"].to_pylist()), videos)
    pq.write_table(table.filter(keep), root / "labels.parquet")
    with np.load(whole / "landmarks.npz") as arrays:
        np.savez(root / "landmarks.npz", **{name: arrays[name][keep] for name in ("landmarks", "video_id", "frame")})
    with (whole / "videos.csv").open() as file:
        header, *rows = list(csv.reader(file))
    with (root / "videos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row[0] in videos)])
    for folder, name in (("videos", "{}.mp4"), ("stimuli", "{}_stim.mp4")):
        (root / folder).mkdir()
        for video in videos:
            shutil.copy(whole / folder / name.format(video), root / folder)
    return root


WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "affectnet": write_later,
    "affwild2": write_abaw6,
    "bp4d": write_bp4d,
    "bp4d_plus": write_bp4d_plus,
    "bu3dfe": write_bu3dfe,
    "c_expr_db": write_c_expr_db,
    "ck_plus": write_ck_plus,
    "disfa": write_disfa,
    "emotic": write_mat,
    "emotionet": write_automatic,
    "ferplus": write_tables,
    "gft": write_gft,
    "hume_reaction": write_abaw5,
    "hume_vidmimic2": write_vidmimic2,
    "image_folder": write_image_folder,
    "mmi": write_mmi,
    "rafdb": write_rafdb,
    "reactionnet": write_reactionnet,
    "rendered_facs": write_rendered_facs,
}
