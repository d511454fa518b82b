"""Rules applied at load time."""

import math

import numpy as np
import pytest

from reactionnet_datasets.rules import FERPLUS_VOTES, MASKED_CLASS, Values, make_rule, make_rules


def derived(target, text, values, space="number", column=None):
    rule = make_rule(target, text)
    targets, valid = rule.derive({column or target: Values(values=values, space=space)})
    return targets.tolist(), valid.tolist()


def votes(*rows):
    """Rows of ten votes, in FER+'s order, as native columns."""
    columns = zip(*rows, strict=True)
    return {
        f"votes_{name}": Values(values=list(column), space="votes")
        for name, column in zip(FERPLUS_VOTES, columns, strict=True)
    }


def test_disfa_counts_an_action_unit_from_intensity_two():
    targets, valid = derived("au_occ_12", "intensity>=2", [0, 1, 2, 5, None], column="au_int_12")
    assert targets[:4] == [0, 0, 1, 1]
    assert math.isnan(targets[4])
    assert valid == [True, True, True, True, False]


def test_numbers_come_as_they_are_or_by_the_arithmetic_that_is_named():
    assert derived("valence", None, [0.5, -1])[0] == [0.5, -1]
    assert derived("valence", "(x-5.5)/4.5", [1, 10, 5.5])[0] == [-1, 1, 0]
    assert derived("au_int_6", "x/5", [5, 0])[0] == [1, 0]
    assert derived("valence", "(x+1)", [2])[0] == [3]


def test_a_scale_is_brought_to_anothers_range():
    assert derived("valence", "scale:va", [1, 10, 5.5], space="vad10")[0] == [-1, 1, 0]
    assert derived("valence", "scale:va", [-0.25, None], space="va")[1] == [True, False]
    assert derived("valence", "scale:va", [-0.25], space="va")[0] == [-0.25]
    with pytest.raises(ValueError, match="whose range is not known"):
        derived("valence", "scale:va", [3])
    with pytest.raises(ValueError, match="expected numbers and one of"):
        make_rule("valence", "scale:affectnet8")


def test_classes_carry_over_by_name():
    targets, valid = derived("expression", "classes:abaw7", ["happiness", "contempt", None], space="affectnet8")
    assert targets == [4, MASKED_CLASS, MASKED_CLASS]
    assert valid == [True, False, False]
    assert make_rule("expression", "classes:abaw7").classes[4] == "happiness"
    assert derived("expression", None, ["happiness"], space="affectnet8")[0] == [1]
    assert derived("scene", "classes:game,self_made_video", ["self-made video"], space="scene")[0] == [1]


def test_an_open_vocabulary_needs_its_classes_named():
    with pytest.raises(ValueError, match="scene is in an open vocabulary"):
        derived("scene", None, ["game"], space="scene")


#                 neu hap sur sad ang dis fea con unk nf
CLEAR = (1, 7, 1, 0, 0, 0, 0, 0, 1, 0)
TIE = (5, 5, 0, 0, 0, 0, 0, 0, 0, 0)
UNKNOWN = (2, 2, 0, 0, 0, 0, 0, 0, 6, 0)
NOT_HALF = (4, 3, 3, 0, 0, 0, 0, 0, 0, 0)
NONE = (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("ferplus:majority", [1, None, None, None, None]),
        ("ferplus:argmax8", [1, 0, 0, 0, None]),
        ("ferplus:argmax10", [1, 0, None, 0, None]),
    ],
)
def test_the_vote_rules_of_ferplus(rule, expected):
    targets, valid = make_rule("expression", rule).derive(votes(CLEAR, TIE, UNKNOWN, NOT_HALF, NONE))
    assert [int(t) if v else None for t, v in zip(targets, valid, strict=True)] == expected
    assert set(targets[~valid]) <= {MASKED_CLASS}


def test_votes_as_a_distribution():
    rule = make_rule("expression", "ferplus:probability")
    targets, valid = rule.derive(votes(CLEAR, TIE, NONE))
    assert targets[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert targets[1].tolist()[:2] == [0.5, 0.5]
    assert valid.tolist() == [True, True, False]
    assert np.isnan(targets[2]).all()


# By hand, after the authors' reader: what is chosen, in order of votes, until 3/4 of all are counted or three classes.
@pytest.mark.parametrize(
    ("rule", "row", "expected"),
    [
        ("probability", (5, 3, 2, 0, 0, 0, 0, 0, 0, 0), {0: 5 / 8, 1: 3 / 8}),  # 8 of 10 are enough
        ("probability", (6, 0, 0, 0, 0, 0, 0, 0, 4, 0), {0: 1.0}),  # unknown ends the list behind an emotion
        ("probability", (2, 0, 0, 0, 0, 0, 0, 0, 0, 3), {}),  # no face leads
        ("probability", (2, 2, 2, 2, 2, 0, 0, 0, 0, 0), {}),  # five equals are too many
        ("probability", (4, 0, 0, 0, 0, 0, 0, 0, 4, 2), {}),  # equals with unknown: 4 of 10 are not half
        ("multi_target", (5, 3, 2, 0, 0, 0, 0, 0, 0, 0), {0: 1, 1: 1}),
        ("multi_target", (4, 2, 2, 2, 0, 0, 0, 0, 0, 0), {}),  # 4 of 10 are not half
        ("multi_target", (3, 0, 0, 0, 0, 0, 0, 0, 7, 0), {}),  # unknown leads
        ("multi_target", (6, 0, 0, 0, 0, 0, 0, 0, 4, 0), {0: 1}),
        ("multi_target", (1, 1, 1, 1, 1, 1, 1, 1, 1, 1), {}),
    ],
)
def test_the_vector_rules_of_ferplus(rule, row, expected):
    targets, valid = make_rule("expression", f"ferplus:{rule}").derive(votes(row))
    assert valid.tolist() == [bool(expected)]
    if expected:
        assert targets[0].tolist() == pytest.approx([expected.get(place, 0) for place in range(8)])


def test_votes_that_miss_one_count_give_none():
    columns = votes(CLEAR)
    columns["votes_fear"] = Values(values=[None], space="votes")
    assert make_rule("expression", "ferplus:majority").derive(columns)[1].tolist() == [False]


@pytest.mark.parametrize(
    ("target", "text", "reason"),
    [
        ("au_12", None, "no label column is called 'au_12'"),
        ("valence", "intensity>=2", "does not fit 'valence'"),
        ("valence", "ferplus:majority", "expected expression"),
        ("expression", "ferplus:best", "majority"),
        ("expression", "x/5", "holds names"),
        ("valence", "classes:abaw7", "holds numbers"),
        ("expression", "classes:abaw9", "no classes are called 'abaw9'"),
        ("expression", "classes:a,a", "twice"),
        ("valence", "(x-5.5)/0", "divides by zero"),
        ("valence", "__import__('os')", "no rule is called"),
        ("valence", "x", "no rule is called"),
    ],
)
def test_rules_that_do_not_fit_are_refused(target, text, reason):
    with pytest.raises(ValueError, match=reason):
        make_rule(target, text)


def test_names_alone_or_with_rules():
    assert [rule.target for rule in make_rules(("valence", "arousal"))] == ["valence", "arousal"]
    (rule,) = make_rules({"au_occ_4": "intensity>=1"})
    assert rule.sources == ("au_int_4",)
    assert not rule.of_a_clip
    assert make_rule("eri_fear").of_a_clip
    targets, valid = rule.missing(2)
    assert np.isnan(targets).all() and not valid.any()
