import json
from dataclasses import dataclass

import pytest

from reactionnet_pipeline.cache import cached, fingerprint, library_versions
from reactionnet_pipeline.errors import Code, SourceError


@dataclass(frozen=True)
class Setting:
    size: int = 3


class Stage:
    """Counts how often it is asked; fails where told."""

    def __init__(self, error=None):
        self.calls, self.error = 0, error

    def __call__(self, stem):
        self.calls += 1
        if self.error:
            raise self.error
        stem.with_name(stem.name + ".bin").write_bytes(b"x")
        return {"file": stem.name + ".bin"}


def test_what_was_done_once_is_not_done_again(tmp_path):
    stage = Stage()
    (tmp_path / "s").mkdir()
    first = cached(tmp_path, "s", "a.b/c", "k" * 64, stage)
    assert cached(tmp_path, "s", "a.b/c", "k" * 64, stage) == first
    assert stage.calls == 1
    assert first["file"] == "a_2eb_2fc-kkkkkkkkkkkkkkkk.bin"
    cached(tmp_path, "s", "a.b/c", "j" * 64, stage)
    cached(tmp_path, "s", "other", "k" * 64, stage)
    assert stage.calls == 3


def test_a_lasting_error_is_a_result_and_a_passing_one_is_not(tmp_path):
    lasting, passing = Stage(SourceError(Code.NO_LAYOUT, "no seam")), Stage(SourceError(Code.FETCH_FAILED, "away"))
    for _ in range(2):
        with pytest.raises(SourceError, match="NO_LAYOUT: no seam"):
            cached(tmp_path, "s", "a", "k" * 64, lasting)
        with pytest.raises(SourceError, match="FETCH_FAILED: away"):
            cached(tmp_path, "s", "b", "k" * 64, passing)
    assert (lasting.calls, passing.calls) == (1, 2)


def test_a_fault_of_ours_leaves_no_marker(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached(tmp_path, "s", "a", "k" * 64, Stage(ZeroDivisionError()))
    assert list(tmp_path.rglob("*.json")) == []


def test_a_marker_is_json_that_names_the_result(tmp_path):
    (tmp_path / "s").mkdir()
    result = cached(tmp_path, "s", "a", "k" * 64, Stage())
    assert json.loads((tmp_path / "s" / "a-kkkkkkkkkkkkkkkk.json").read_bytes()) == result


def test_a_fingerprint_tells_inputs_apart_and_not_their_order():
    assert fingerprint(a=1, b=Setting()) == fingerprint(b=Setting(), a=1)
    others = [fingerprint(a=1, b=Setting(4)), fingerprint(a="1", b=Setting()), fingerprint(b=1, a=Setting())]
    assert len({fingerprint(a=1, b=Setting()), *others}) == 4


def test_the_libraries_that_decide_pixels_are_all_installed_and_counted():
    assert "none" not in library_versions().values()
