"""Exports are opened by the tools they are made for: Hugging Face's datasets, mlcroissant, a Markdown renderer."""

import json
import logging
import shutil
from dataclasses import replace

import mlcroissant
import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import datasets
from drawn_shards import draw, write_dataset
from reactionnet_datasets.card import card as render
from reactionnet_datasets.card import gather, plain
from reactionnet_datasets.export import app, export
from reactionnet_datasets.extract import extract
from reactionnet_datasets.sample import Label
from reactionnet_datasets.shards import file_sha256, read_manifest, write_manifest
from reactionnet_datasets.storage import ShardError, open_storage
from reactionnet_datasets.subject_counts import withheld
from reactionnet_datasets.tables import make_table, schema_of, write_part

HOSTILE = "<script>alert(1)</script> [win](javascript:alert(1)) ![x](http://a.example/b.png) | `x` www.a.example\n# Big"


def labels(clip, frames):
    valence = [frame / 10 if frame % 3 == 0 else None for frame in frames]
    return {
        "valence": Label(
            space="va", value=valence, mask=["not_annotated" if v is None else "valid" for v in valence]
        ),
        "scene": Label(space="scene8", value="game"),
    }  # fmt: skip


def add_tables(root):
    """Sources with a hostile title, and eight subjects of whom a model has guessed the gender."""
    manifest = read_manifest(root)
    sources = [
        {"video_id": f"video{n:03d}", "license": "CC-BY-4.0", "creator": "Ann", "title": HOSTILE} for n in range(4)
    ]
    subjects = [
        {
            "subject_id": f"s{n}",
            "crops": 4,
            "gender": "woman" if n < 6 else "man",
            "gender_distribution": {"woman": 0.5},
        }
        for n in range(14)
    ]
    for split, entry in manifest["splits"].items():
        for table, rows in (("sources", sources), ("subjects", subjects)):
            entry["tables"][table] = [write_part(root, table, split, make_table(rows, schema_of(table)))]
            sources = subjects = []
    write_manifest(root, {name: value for name, value in manifest.items() if name != "schema"})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_dataset(
        tmp_path_factory.mktemp("drawn"), [3, 4, 2, 130], num_shards=2, labels=labels, label_names=("valence", "scene"),
        split_of=lambda clip: "val" if clip == 2 else "train", stimulus=True, sound=True, side=8,
    )  # fmt: skip
    add_tables(root)
    return root


@pytest.fixture(scope="module")
def exported(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "set"
    export(root, out)
    return out


def opened(folder, name, cache):
    return datasets.load_dataset(str(folder), name, cache_dir=str(cache))


def test_hugging_face_opens_every_frame_with_its_own_picture_and_labels(exported, tmp_path):
    frames = opened(exported, None, tmp_path)
    assert {split: part.num_rows for split, part in frames.items()} == {"train": 137, "val": 2}
    clips = {"video000": 0, "video001": 1, "video002": 2, "video003": 3}
    for row in [*frames["train"], *frames["val"]]:
        for role in ("reaction", "stimulus"):
            shown = np.asarray(row[role]).astype(int)
            assert np.abs(shown - draw(clips[row["video_id"]], row["frame"], role, side=8)).max() <= 3
        assert row["scene"] == "game"
        assert (row["valence"] is None) == (row["valence_mask"] == "not_annotated") == (row["frame"] % 3 != 0)
        assert np.array(row["landmarks"]).shape == (68, 2)
        assert json.loads(row["folds"]) == {}


def test_an_export_holds_the_original_bytes_of_everything(root, exported, tmp_path):
    records = opened(exported, "records", tmp_path)
    frames = opened(exported, "frames", tmp_path)
    raw = frames.cast_column("reaction", datasets.Image(decode=False))
    raw = raw.cast_column("stimulus", datasets.Image(decode=False))
    pictures = {
        row[role]["path"]: row[role]["bytes"]
        for part in raw.values()
        for row in part
        for role in ("reaction", "stimulus")
    }
    num = 0
    for record in [*records["train"], *records["val"]]:
        held = {one["name"]: one["bytes"] for one in record["members"]} | {
            f"{record['key']}.json": record["json"].encode()
        }
        for path in extract(root, record["key"], tmp_path / "original"):
            assert (held.get(path.name) or pictures.pop(path.name)) == path.read_bytes()
            num += path.name in held
    assert not pictures
    assert num == 5 * 4  # json, landmarks, pose and sound of five records


def test_a_data_set_without_splits_opens_too(tmp_path):
    root = write_dataset(tmp_path / "set", [3], split_of=lambda clip: "all", side=8)
    export(root, tmp_path / "out")
    frames = opened(tmp_path / "out", None, tmp_path / "cache")
    assert {split: part.num_rows for split, part in frames.items()} == {"full": 3}
    assert frames["full"][0]["stimulus"] is None


def test_mlcroissant_validates_and_reads_records_through(exported, caplog):
    with caplog.at_level(logging.WARNING):
        metadata = mlcroissant.Dataset(str(exported / "croissant.json"))
    issues = metadata.metadata.ctx.issues
    assert not issues.errors
    # Only these two, which a data set without a paper or a date of publication cannot have.
    assert sorted(warning.split('"')[1].rpartition("/")[2] for warning in issues.warnings) == [
        "citeAs",
        "datePublished",
    ]
    assert metadata.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    rows = list(metadata.records("frames"))
    assert len(rows) == 139
    for row in rows:
        assert np.array(row["frames/landmarks"]).shape == (68, 2)
        clip = int(row["frames/video_id"].decode().removeprefix("video"))
        assert (
            np.abs(np.asarray(row["frames/reaction"]).astype(int) - draw(clip, row["frames/frame"], side=8)).max() <= 3
        )
    assert len(list(metadata.records("records"))) == 5
    assert {row["sources/creator"] for row in metadata.records("sources")} == {b"Ann"}


def test_metadata_states_hashes_and_responsible_use(exported):
    content = json.loads((exported / "croissant.json").read_text())
    files = {one["contentUrl"]: one["sha256"] for one in content["distribution"] if one["@type"] == "cr:FileObject"}
    assert set(files) == {path.relative_to(exported).as_posix() for path in exported.rglob("*.parquet")}
    assert all(file_sha256(exported / path) == digest for path, digest in files.items())
    read = mlcroissant.Dataset(str(exported / "croissant.json")).metadata
    assert "valence: 91 frames without" in read.data_collection_missing_data
    assert read.data_biases[1] == "gender, subjects as a model labels their looks: man 8, woman 6"
    for stated in (
        read.data_collection,
        read.data_limitations,
        read.data_use_cases,
        read.personal_sensitive_information,
    ):
        assert stated
    assert content["license"] == ["https://spdx.org/licenses/CC-BY-4.0.html"]


def test_the_card_counts_and_withholds(root, exported):
    card = (exported / "README.md").read_text()
    assert "| train | 4 | 3 | 4 | 137 | 3 |" in card
    assert "| `valence` | 48 | 91 not_annotated |" in card
    assert "| gender | woman | 6 |" in card
    facts = gather(open_storage(root), read_manifest(root))
    assert facts.people["gender"] == {"man": 8, "woman": 6}
    few = replace(facts, people={"gender": withheld({"man": 4, "woman": 9})})
    assert "| gender | man | withheld |\n| gender | woman | withheld |" in render(few, {})
    front = yaml.safe_load(card.split("---")[1])
    assert front["license_name"] == "CC-BY-4.0"


@pytest.mark.parametrize(
    "text", [HOSTILE, "1. one", "- one", "+ one", "> one", "https://a.example", "a  \n\n# b", "&lt;b&gt;", "*a* __b__"]
)
def test_text_of_a_manifest_shows_as_it_is_and_does_nothing(text):
    markdown = MarkdownIt("gfm-like", {"html": True})
    shown = " ".join(text.split())
    expected = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert markdown.render(plain(text)).strip() == f"<p>{expected}</p>"
    cell = markdown.render(f"| a |\n|---|\n| {plain(text)} |")
    assert cell.count("<td>") == 1 and f"<td>{expected}</td>" in cell


def test_the_card_holds_the_hostile_title_as_text(exported):
    body = (exported / "README.md").read_text().split("---\n", 2)[2]
    page = MarkdownIt("gfm-like", {"html": True}).render(body)
    assert "alert(1)" in page
    assert not any(tag in page for tag in ("<script", "<img", "<a "))


def test_a_subject_in_two_splits_is_said(tmp_path):
    root = write_dataset(
        tmp_path / "set", [2, 2], split_of=lambda clip: ("train", "test")[clip], side=8,
        of_clip=lambda clip: {"subject_id": "ann"},
    )  # fmt: skip
    done = CliRunner().invoke(app, [str(root), str(tmp_path / "out"), "--card-only"])
    assert done.exit_code == 0, done.output
    assert "**1 subjects are in more than one split**" in (tmp_path / "out" / "README.md").read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["README.md"]


def test_a_damaged_shard_leaves_no_export_behind(root, tmp_path):
    shutil.copytree(root, tmp_path / "set")
    tar = max((tmp_path / "set" / "shards").glob("*.tar"), key=lambda path: path.stat().st_size)
    data = bytearray(tar.read_bytes())
    data[:8] = b"swapped!"
    tar.write_bytes(data)
    with pytest.raises(ShardError, match="members were moved or damaged"):
        export(tmp_path / "set", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_a_folder_in_use_is_refused_in_words(root, tmp_path):
    (tmp_path / "mine").write_text("kept")
    done = CliRunner().invoke(app, [str(root), str(tmp_path)])
    assert done.exit_code == 2
    assert "is not an empty folder; name a new one" in done.output
    assert (tmp_path / "mine").read_text() == "kept"
    done = CliRunner().invoke(app, [str(tmp_path), str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "is no data set" in done.output


def test_the_same_data_set_gives_the_same_bytes(root, exported, tmp_path):
    export(root, tmp_path / "again")
    files = [path.relative_to(exported) for path in exported.rglob("*") if path.is_file()]
    assert all((exported / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)
