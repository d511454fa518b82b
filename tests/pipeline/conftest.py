"""Small reaction videos drawn once a session, and a build of them."""

from dataclasses import replace

import pytest

from builds import RATIO, Built, Drawn, published, run_build, write_rows
from reactionnet_pipeline import demo
from reactionnet_pipeline.drawing.composing import compose, write_truth
from tiny_models import tiny_blip, tiny_deepface

KINDS = ("two_halves", "corner_with_border", "two_reactors")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Drawn:
    """Three videos of 2.4 s: side by side, picture in picture, two reactors. Only the first has no layout given."""
    folder = tmp_path_factory.mktemp("drawn")
    kinds = {name.split("_", 1)[1]: make for name, make in demo.VIDEOS.items()}
    records = [compose(replace(kinds[kind](kind), duration_s=2.4), folder) for kind in KINDS]
    write_truth(records, folder)
    result = Drawn(folder, tuple(records))
    rows = result.rows()
    for row, record in list(zip(rows, records, strict=True))[1:]:
        row["layout"] = [
            {
                "role": "reaction" if pane["role"] == "face" else "stimulus",
                "start_s": pane["start"],
                "end_s": pane["end"],
            }
            | {side: pane[side] for side in ("x", "y", "w", "h", "z")}
            for pane in record["panes"]
        ]
    for row in rows:  # absolute, so that a manifest may lie elsewhere
        row["uri"] = str(folder / row["uri"])
    write_rows(result.manifest, rows)
    return result


@pytest.fixture(scope="session")
def built(drawn, tmp_path_factory) -> Built:
    """The drawn videos built once by one worker, for all tests that only look at the result."""
    out = tmp_path_factory.mktemp("built") / "dataset"
    run_build(drawn.manifest, out, "--workers", "1", "--split-ratio", RATIO)
    return Built(out, published(out))


@pytest.fixture(scope="session")
def blip(tmp_path_factory):
    """A folder with a tiny BLIP."""
    return tiny_blip(tmp_path_factory.mktemp("models") / "blip")


@pytest.fixture(scope="session")
def deepface_home(tmp_path_factory):
    """A folder as $DEEPFACE_HOME is, with tiny stand-ins for the four attribute nets."""
    home = tmp_path_factory.mktemp("deepface")
    tiny_deepface(home)
    return home
