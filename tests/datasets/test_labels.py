"""Label columns and spaces."""

import pytest

from reactionnet_datasets.labels import CLASSES, class_name, column_of, fault_of
from reactionnet_datasets.sample import Label


def test_every_class_is_spelled_as_class_name_spells_it():
    for names in CLASSES.values():
        assert [class_name(name) for name in names] == list(names)
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("released", "ours"),
    [("Empathic-Pain", "empathic_pain"), ("Empathic Pain", "empathic_pain"), ("Happy", "happiness"),
     ("Doubt/Confusion", "doubt_confusion"), ("Fearfully_Surprised", "fearfully_surprised")],
)  # fmt: skip
def test_spellings_of_releases_become_one(released, ours):
    assert class_name(released) == ours


def test_an_unknown_column_is_named():
    with pytest.raises(ValueError, match="au_occurrence_12"):
        column_of("au_occurrence_12")


@pytest.mark.parametrize(
    ("column", "label", "fault"),
    [
        ("au_occ_12", Label(space="au_occ", value=1), None),
        ("au_occ_12", Label(space="au_occ", value=[0, None], mask=["valid", "uncodable"]), None),
        ("au_occ_12", Label(space="au_occ", value=9), "9"),
        ("expression", Label(space="affectnet8", value="contempt"), None),
        ("expression", Label(space="affectnet7", value="contempt"), "affectnet7"),
        ("expression", Label(space="affectnet8", value=3), "name of a class"),
        ("valence", Label(space="va", value=-2.0), "from -1 to 1"),
        ("valence", Label(space="volts", value=0.5), "volts"),
    ],
)
def test_values_outside_their_space_are_described(column, label, fault):
    found = fault_of(column, label)
    assert found is None if fault is None else fault in found
