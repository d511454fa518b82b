"""Captions, demographics and annotations in a whole build, with tiny real models."""

import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from builds import RATIO, published, run_build, write_rows
from reactionnet_datasets.shards import read_manifest

VIDEO = "two_halves"


def codes(times=range(8), first=(1, 1, 0, 0, 1, 0, 1, 0)):
    """Two coders on eight moments of one video, a corrected caption, and two rows about nothing."""
    rows = []
    for coder, values in (("ann", first), ("bob", (1, 1, 0, 0, 1, 0, 0, 0))):
        rows += [
            {
                "video_id": VIDEO,
                "t_s": round(0.2 + 0.2 * n, 3),
                "coder": coder,
                "au_occ_12": value,
                "au_int_12": 3 * value,
            }
            for n, value in zip(times, values, strict=True)
        ]
    rows[0] |= {"caption": "a ball rolls", "expression": "happiness"}
    return [*rows, {"video_id": VIDEO, "t_s": 99.0, "au_occ_1": 1}, {"video_id": "stranger", "t_s": 0.0}]


@dataclass(frozen=True)
class Understood:
    """A build with everything switched on, and the command that made it."""

    out: Path
    annotations: Path
    options: tuple[str, ...]
    files: dict[str, str]


@pytest.fixture(scope="module")
def understood(drawn, blip, deepface_home, tmp_path_factory) -> Understood:
    folder = tmp_path_factory.mktemp("understood")
    annotations = write_rows(folder / "codes.jsonl", codes())
    options = (
        "--split-ratio", RATIO, "--caption-model", str(blip), "--demographics-model", str(deepface_home),
        "--annotations", str(annotations),
    )  # fmt: skip
    run_build(drawn.manifest, folder / "d", "--workers", "1", *options)
    return Understood(folder / "d", annotations, options, published(folder / "d"))


def records(out: Path, split: str | None = None) -> list[dict]:
    """The json members of all records."""
    found = []
    for name, entry in read_manifest(out)["splits"].items():
        for shard in entry["shards"] if split in (None, name) else ():
            with tarfile.open(out / shard["path"]) as tar:
                found += [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
    return found


def test_captions_stand_in_shards_and_table_alike_a_persons_first(understood):
    table = pq.read_table(understood.out / "tables" / "captions.parquet").to_pylist()
    assert {row["decoding"] for row in table} == {"beam", "nucleus", "human"}
    assert {row["video_id"] for row in table} == {record["video_id"] for record in records(understood.out)}
    for record in records(understood.out):
        rows = [row for row in table if row["clip_id"] == record["clip_id"]]
        assert [(row["t_s"], row["decoding"], row["text"], row["model"]) for row in rows] == [
            (one["t_s"], one["decoding"], one["text"], one["model"]) for one in record["captions"]
        ]
        assert all(one["text"] for one in record["captions"])
    first = next(row for row in table if row["video_id"] == VIDEO)
    assert (first["text"], first["decoding"], first["model"], first["score"]) == ("a ball rolls", "human", None, None)


def test_codes_stand_at_their_frames(understood):
    frames = pq.read_table(understood.out / "tables" / "frames.parquet").to_pylist()
    coded = {row["t_s"]: row for row in frames if row["au_occ_12_mask"] != "not_annotated"}
    assert {row["video_id"] for row in coded.values()} == {VIDEO}
    assert [row["au_occ_12"] for row in coded.values()] == [1, 1, 0, 0, 1, 0, None, 0]  # the coders differ on one
    assert [row["au_occ_12_mask"] for row in coded.values()][6] == "rule_gave_none"
    assert next(iter(coded.values()))["expression"] == "happiness"
    assert all(row["expression_mask"] for row in frames)


def test_the_report_names_what_matched_nothing_and_how_far_coders_agree(understood):
    report = json.loads((understood.out / "run_report.json").read_bytes())["annotations"]
    assert report["rows"] == 18
    assert [(row["line"], row["reason"]) for row in report["unmatched"]] == [
        (17, "no frame within half a frame of 99 s was written"),
        (18, "the manifest has no such video"),
    ]
    figures = {row["label"]: row for row in report["agreement"]}
    assert figures["au_occ_12"]["kappa"] == pytest.approx(0.75)
    assert figures["au_occ_12"]["f1"] == pytest.approx(6 / 7, abs=1e-4)
    assert figures["au_int_12"]["icc"] > 0.5
    assert "Annotations" in (understood.out / "report.html").read_text()


def test_subjects_have_demographics_and_the_report_withholds_so_few(understood):
    subjects = pq.read_table(understood.out / "tables" / "subjects.parquet").to_pylist()
    assert len(subjects) == 3
    for row in subjects:
        assert row["crops"] == 16
        assert sum(dict(row["ethnicity_distribution"]).values()) == pytest.approx(1, abs=0.01)
        assert row["demographics_model"].startswith("deepface-onnx@")
    report = json.loads((understood.out / "run_report.json").read_bytes())
    assert report["demographics"]["subjects"] == report["demographics"]["estimated"] == 3
    assert {count for counts in report["demographics"]["counts"].values() for count in counts.values()} == {None}
    assert read_manifest(understood.out)["stages_left_out"] == report["stages_left_out"] == []


def test_an_edited_annotation_rewrites_its_shard_alone_and_decodes_nothing(understood, drawn, tmp_path):
    work = understood.out.with_name("d.work")
    staged = {path: path.stat().st_mtime_ns for folder in ("decode", "layout", "clips", "captions", "demographics")
              for path in (work / folder).iterdir()}  # fmt: skip
    before, pictures = read_manifest(understood.out)["splits"], members(understood.out)
    write_rows(understood.annotations, codes(first=(0, 1, 0, 0, 1, 0, 1, 0)))
    run_build(drawn.manifest, understood.out, "--workers", "1", *understood.options)
    after = read_manifest(understood.out)["splits"]
    (changed,) = [name for name in after if after[name]["shards"] != before[name]["shards"]]
    assert [record["video_id"] for record in records(understood.out, changed)] == [VIDEO]
    assert json.loads((understood.out / "run_report.json").read_bytes())["frames_read"] == 0
    assert {path: path.stat().st_mtime_ns for path in staged} == staged
    assert members(understood.out) == pictures


def members(out: Path) -> dict[str, bytes]:
    """All members but the json, by name."""
    found = {}
    for entry in read_manifest(out)["splits"].values():
        for shard in entry["shards"]:
            with tarfile.open(out / shard["path"]) as tar:
                found |= {m.name: tar.extractfile(m).read() for m in tar if not m.name.endswith(".json")}
    return found


def test_a_rerun_with_models_loads_none_of_them(understood, drawn):
    arguments = [
        "reactionnet-build",
        "--sources",
        str(drawn.manifest),
        "--out",
        str(understood.out),
        *understood.options,
    ]
    script = (
        f"import sys; from reactionnet_pipeline import cli; sys.argv = {arguments!r}\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'deepface', 'onnxruntime', 'apache_beam', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stderr


def test_stages_without_weights_are_left_out_and_named(built, drawn):
    content = read_manifest(built.out)
    left_out = {one["stage"]: one for one in content["stages_left_out"]}
    assert set(left_out) >= {"captions", "demographics"}
    assert json.loads((built.out / "run_report.json").read_bytes())["stages_left_out"] == content["stages_left_out"]
    assert "Stages left out" in (built.out / "report.html").read_text()
    assert pq.read_table(built.out / "tables" / "captions.parquet").num_rows == 0
    assert pq.read_table(built.out / "tables" / "subjects.parquet")["gender"].null_count == 3
    command = [
        sys.executable,
        "-m",
        "reactionnet_pipeline.cli",
        "--sources",
        str(drawn.manifest),
        "--out",
        str(built.out),
    ]
    said = subprocess.run([*command, "--split-ratio", RATIO], capture_output=True, text=True, check=True).stderr
    assert "left out: captions: Salesforce/blip-image-captioning-base lies in no cache" in said
    assert "to have it: put DeepFace's age, gender, race and expression weights" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--caption-model", "me/mine"), "lies in no cache"),
        (("--demographics-model", "nowhere"), "lacks age_model_weights"),
        (("--annotations", "nowhere.csv"), "no file at nowhere.csv"),
    ],
)
def test_what_is_named_and_not_there_is_an_error_before_anything_is_opened(drawn, tmp_path, options, said):
    done = run_build(drawn.manifest, tmp_path / "d", *options, check=False)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "d.work").exists()


@pytest.mark.slow
def test_two_workers_in_another_order_caption_and_estimate_the_same(understood, drawn, tmp_path):
    manifest = write_rows(tmp_path / "shuffled.jsonl", drawn.rows()[::-1])
    run_build(manifest, tmp_path / "d", "--workers", "2", *understood.options)
    assert published(tmp_path / "d") == understood.files


@pytest.mark.slow
def test_another_caption_model_captions_anew_and_nothing_else(understood, drawn, blip, tmp_path):
    from safetensors.numpy import load_file, save_file

    other = tmp_path / "other"
    other.mkdir()
    for path in blip.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tensors = load_file(other / "model.safetensors")
    save_file({name: value * 1.5 for name, value in tensors.items()}, other / "model.safetensors", {"format": "pt"})
    options = [str(other) if option == str(blip) else option for option in understood.options]
    before = set(understood.out.with_name("d.work").glob("demographics/*"))
    run_build(drawn.manifest, understood.out, "--workers", "1", *options)
    report = json.loads((understood.out / "run_report.json").read_bytes())
    assert report["frames_read"] == 0
    assert set(understood.out.with_name("d.work").glob("demographics/*")) == before
    assert all(
        one["model"].startswith("other@")
        for record in records(understood.out)
        for one in record["captions"]
        if one["decoding"] != "human"
    )
    run_build(drawn.manifest, understood.out, "--workers", "1", *understood.options)
    assert published(understood.out) == understood.files
