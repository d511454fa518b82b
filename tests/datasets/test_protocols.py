"""Published subject lists."""

import json

import pytest

from reactionnet_datasets.protocols import Protocol, load_protocol, parse_protocol, protocol_names


@pytest.mark.parametrize("name", protocol_names())
def test_every_fold_uses_each_subject_once_and_tests_each_at_most_once(name):
    protocol = load_protocol(name)
    everyone = {subject for part in protocol.parts.values() for subject in part}
    tested = [subject for fold in protocol.folds for subject in protocol.subjects_of(fold, "test")]
    assert len(tested) == len(set(tested))
    for fold, roles in protocol.folds.items():
        used = [subject for role in roles for subject in protocol.subjects_of(fold, role)]
        assert sorted(used) == sorted(everyone)
    assert protocol.source


@pytest.mark.parametrize(
    ("name", "sizes", "subject", "part"),
    [
        ("bp4d-3fold", [14, 14, 13], "F023", 1),
        ("bp4d-fera2015", [21, 20], "M018", 2),
        ("disfa-3fold", [9, 9, 9], "SN031", 2),
        ("bp4dplus-4fold", [35, 35, 35, 35], "F082", 4),
        ("bu3dfe-10fold-ours-v1", [10] * 10, "M0044", 10),
    ],
)
def test_the_lists_have_the_published_sizes(name, sizes, subject, part):
    protocol = load_protocol(name)
    assert [len(subjects) for subjects in protocol.parts.values()] == sizes
    assert protocol.part_of(subject) == part
    assert protocol.part_of("nobody") is None


def test_the_role_follows_from_the_fold():
    protocol = load_protocol("bp4d-3fold")
    assert [protocol.role_of(3, fold) for fold in (1, 2, 3)] == ["test", "train", "train"]
    assert protocol.parts_of(2, "train") == (1, 3)
    assert "F007" in protocol.subjects_of(1, "test")


def test_names_without_a_published_list_are_spread_by_their_hash():
    protocol = load_protocol("emotionet-ours-v1")
    parts = [protocol.part_of(f"N_{number:010d}_00001") for number in range(3000)]
    assert [round(parts.count(part) / 3000, 1) for part in (1, 2, 3)] == [0.8, 0.1, 0.1]
    assert {n: part for n, part in enumerate(parts[:53]) if part != 1} == {
        12: 3,
        16: 3,
        19: 2,
        22: 2,
        27: 3,
        52: 3,
    }  # a version never changes
    assert load_protocol("bp4d-3fold").part_of("F999") is None


def test_what_is_asked_for_wrongly_is_named():
    protocol = load_protocol("disfa-3fold")
    with pytest.raises(ValueError, match="no fold 4; it has 1, 2, 3"):
        protocol.parts_of(4, "test")
    with pytest.raises(ValueError, match="no 'val'; it has train, test"):
        protocol.parts_of(1, "val")
    with pytest.raises(ValueError, match=r"no protocol is called 'disfa'; known: .*disfa-3fold"):
        load_protocol("disfa")


def plain(**changed):
    content = {"name": "p", "version": 1, "dataset": "d", "source": "s", "parts": {"1": ["a"], "2": ["b"]},
               "folds": {"1": {"train": [1], "test": [2]}}}  # fmt: skip
    return json.dumps({**content, **changed})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "mine.json is no protocol"),
        (plain(parts={"1": ["a"], "2": ["a"]}), "a in more than one place"),
        (plain(folds={"1": {"train": [1, 2], "test": [2]}}), "fold 1"),
        (plain(folds={"1": {"train": [3]}}), "fold 1"),
        (plain(folds={"1": {"practice": [1]}}), "fold 1"),
        (plain(colour="red"), "colour"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_protocol(text, "mine.json")


def test_a_protocol_of_ones_own_is_read_from_its_file(tmp_path):
    (tmp_path / "mine.json").write_text(plain())
    found = load_protocol(tmp_path / "mine.json")
    assert isinstance(found, Protocol)
    assert found == load_protocol(str(tmp_path / "mine.json"))
    assert found.subjects_of(1, "test") == ("b",)
