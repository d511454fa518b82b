"""Metrics against counts written out and scikit-learn's, with their conventions."""

import math

import pytest
import torch

from reactionnet_models.correlation import Correlations
from reactionnet_models.frame_metrics import FrameCircumplex
from reactionnet_models.metrics import ActionUnits, Circumplex, Expressions, TopLabels


def test_f1_counts_ties_as_predicted_skips_masks_and_gives_0_for_nothing():
    metric = ActionUnits((1, 2, 4))
    logit = torch.tensor([[[0.0, -1.0, -1.0], [3.0, -1.0, 2.0], [-2.0, -1.0, 2.0]]])  # 0.0: a probability of 0.5
    true = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, float("nan")], [1.0, 0.0, 1.0]]])
    mask = torch.tensor([[[True, True, True], [True, True, False], [True, True, True]]])
    metric.update({"logit_BTM": logit}, {"au_BTM": true, "au_mask_BTM": mask})
    found = metric.compute()
    # AU1: predicted frames 0, 1; true frames 0, 2. AU4: frame 1 is masked; predicted 2; true 0, 2.
    assert found["f1_au1"] == pytest.approx(2 * 1 / (2 + 2))
    assert found["f1_au2"] == 0.0
    assert found["f1_au4"] == pytest.approx(2 * 1 / (1 + 2))
    assert found["f1"] == pytest.approx((0.5 + 0.0 + 2 / 3) / 3)


@pytest.mark.filterwarnings("error:The variance of predictions")
def test_average_precision_is_scikit_learns_over_the_units_that_occur():
    average_precision = pytest.importorskip("sklearn.metrics").average_precision_score
    torch.manual_seed(0)
    logit, true, mask = torch.randn(60, 3).mul(2).round(), (torch.rand(60, 3) < 0.3).float(), torch.rand(60, 3) < 0.8
    true[:, 1] = 0
    metric = ActionUnits((1, 2, 4))
    for part in (slice(0, 20), slice(20, 60)):
        metric.update({"logit_BTM": logit[part]}, {"au_BTM": true[part], "au_mask_BTM": mask[part]})
    theirs = [average_precision(true[mask[:, j], j], logit[mask[:, j], j]) for j in (0, 2)]
    assert metric.compute()["average_precision"] == pytest.approx(sum(theirs) / 2, abs=1e-6)
    nothing = ActionUnits((1,))
    nothing.update({"logit_BTM": logit[:, :1]}, {"au_BTM": true[:, 1:2], "au_mask_BTM": mask[:, 1:2]})
    assert math.isnan(nothing.compute()["average_precision"])


def test_expressions_are_scikit_learns_weighted_average():
    report = pytest.importorskip("sklearn.metrics").precision_recall_fscore_support
    torch.manual_seed(0)
    logit, true = torch.randn(200, 4), torch.randint(4, (200,))
    true[:20] = -100
    metric = Expressions("abcd")
    for part in (slice(0, 70), slice(70, 200)):
        metric.update({"expression_BK": logit[part]}, {"expression_B": true[part]})
    precision, recall, f1, _ = report(true[20:], logit[20:].argmax(1), average="weighted", zero_division=0)
    found = metric.compute()
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((precision, recall, f1), abs=1e-6)
    assert sum(map(sum, metric.details()["confusion"][1])) == 180


def test_circumplex_pools_both_dimensions_as_cages_code():
    torch.manual_seed(0)
    pred, true = torch.randn(60, 2), torch.randn(60, 2) + 0.3
    mask = torch.rand(60, 2) < 0.8
    metric = Circumplex(("valence", "arousal"))
    hidden = torch.where(mask, true, float("nan"))
    for part in (slice(0, 25), slice(25, 60)):
        metric.update({"affect_BD": pred[part]}, {"affect_BD": hidden[part], "affect_mask_BD": mask[part]})
    found = metric.compute()
    x, y = pred[mask].double(), true[mask].double()
    ccc = 2 * torch.cov(torch.stack([x, y]))[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert found["ccc"] == pytest.approx(float(ccc), abs=1e-4)
    assert found["rmse"] == pytest.approx(float((x - y).square().mean()) ** 0.5, abs=1e-5)
    x, y = pred[:, 1][mask[:, 1]], true[:, 1][mask[:, 1]]
    assert found["mae_arousal"] == pytest.approx(float((x - y).abs().mean()), abs=1e-5)


def ccc_of(answers, labels, parts: int = 1, mask=None) -> float:
    """The CCC of one dimension, given in so many parts."""
    metric, pred, true = Circumplex("v"), torch.tensor(answers)[:, None], torch.tensor(labels)[:, None]
    mask = torch.ones_like(true, dtype=torch.bool) if mask is None else torch.tensor(mask)[:, None]
    for part in torch.arange(len(pred)).chunk(parts):
        metric.update({"affect_BD": pred[part]}, {"affect_BD": true[part], "affect_mask_BD": mask[part]})
    found = metric.compute()
    assert found["ccc"] == pytest.approx(found["ccc_v"], nan_ok=True)
    return found["ccc_v"]


@pytest.mark.filterwarnings("error:The variance of predictions")
@pytest.mark.parametrize("parts", [1, 3, 12])
@pytest.mark.parametrize("constant", [0.0, 0.25, 0.3])
def test_answers_that_do_not_vary_have_a_concordance_of_0(constant, parts):
    labels = [math.sin(n) / 2 for n in range(12)]
    assert ccc_of([constant] * 12, labels, parts) == 0.0
    assert math.isnan(ccc_of([math.nan] * 12, labels, parts))  # a network that has diverged
    metric = FrameCircumplex("va", "affect_BTD")
    for frames in torch.arange(12).chunk(parts):
        true_BTD = torch.tensor(labels)[frames][None, :, None].expand(-1, -1, 2)
        metric.update(
            {"affect_BTD": torch.full_like(true_BTD, constant)},
            {"affect_BTD": true_BTD, "affect_mask_BTD": torch.ones_like(true_BTD, dtype=torch.bool)},
        )
    found = metric.compute()
    assert found["ccc_mean"] == found["ccc_v"] == found["ccc_a"] == found["ccc"] == 0.0


@pytest.mark.filterwarnings("error:The variance of predictions")
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("constant", [0.0, 0.25, 0.3])
def test_labels_that_do_not_vary_or_fewer_than_two_have_no_concordance(constant, parts):
    answers = [math.cos(n) for n in range(12)]
    assert math.isnan(ccc_of(answers, [constant] * 12, parts))
    assert math.isnan(ccc_of([constant] * 12, [constant] * 12, parts))
    assert math.isnan(ccc_of(answers, [constant] * 12, parts, mask=[True] + [False] * 11))
    # what is masked varies without a word
    assert math.isnan(ccc_of(answers, [constant] * 11 + [0.9], parts, mask=[True] * 11 + [False]))
    assert ccc_of([constant] * 11 + [0.9], answers, parts, mask=[True] * 11 + [False]) == 0.0


@pytest.mark.filterwarnings("error:The variance of predictions")
def test_answers_that_vary_across_updates_alone_have_a_concordance():
    x, y = [0.5] * 4 + [0.25] * 4, [0.5] * 4 + [0.0] * 4
    # means .375 and .25, variances n / (n - 1) times .125^2 and .25^2
    expected = 2 * 8 / 7 * 0.125 * 0.25 / (8 / 7 * (0.125**2 + 0.25**2) + 0.125**2)
    assert ccc_of(x, y, 2) == pytest.approx(expected, rel=1e-5)
    hardly = [0.3 + n * 1e-7 for n in range(12)]
    assert ccc_of(hardly, [math.sin(n) for n in range(12)], 3) == pytest.approx(0.0, abs=1e-5)


def test_top_labels_in_both_readings():
    logit = torch.tensor([[5.0, 4, 3, 2, 1], [1.0, 2, 3, 4, 5]])
    true = torch.tensor([[1.0, 0, 0, 1, 1], [0.0, 0, 1, 0, 0]])
    metric = TopLabels("abcde")
    metric.update({"expression_BK": logit}, {"labels_BK": true, "labels_mask_BK": torch.ones(2, 5, dtype=torch.bool)})
    assert metric.compute() == {"top3": pytest.approx(2 / 4), "top3_any": 1.0}


def both(metric, out: dict, batch: dict, hidden: dict) -> tuple[dict, dict]:
    """A metric's scores, and its scores where what is masked says something else."""
    found = []
    for labels in (batch, batch | hidden):
        one = metric()
        one.update(out, labels)
        found.append(one.compute())
    return found[0], found[1]


def test_what_is_masked_changes_no_metric():
    torch.manual_seed(0)
    mask = torch.rand(40, 3) < 0.7
    true, out = torch.rand(40, 3).round(), torch.randn(40, 3)
    other = torch.where(mask, true, 1 - true)
    cases = [
        (lambda: ActionUnits((1, 2, 4)), "logit_BTM", "au_BTM", "au_mask_BTM"),
        (lambda: Circumplex("vad"), "affect_BD", "affect_BD", "affect_mask_BD"),
        (lambda: TopLabels("abc", 1), "expression_BK", "labels_BK", "labels_mask_BK"),
    ]
    for metric, output, label, masked in cases:
        given = {label: true, masked: mask}
        before, after = both(metric, {output: out}, given, {label: other})
        assert before == after
        _, unmasked = both(metric, {output: out}, given, {masked: torch.ones_like(mask)})
        assert unmasked != before
    index = torch.where(mask[:, 0], torch.randint(3, (40,)), -100)
    changed = torch.where(mask[:, :1], out, torch.randn(40, 3))  # where the class is masked any answer is as good
    scores = [
        both(lambda: Expressions("abc"), {"expression_BK": one}, {"expression_B": index}, {})[0]
        for one in (out, changed)
    ]
    assert scores[0] == scores[1]


def test_what_nobody_labelled_is_not_measured():
    mask = torch.tensor([[True, False], [True, False]])
    metric = ActionUnits((1, 2))
    metric.update({"logit_BTM": torch.ones(2, 2)}, {"au_BTM": torch.ones(2, 2), "au_mask_BTM": mask})
    found = metric.compute()
    assert found["f1"] == found["f1_au1"] == 1.0 and math.isnan(found["f1_au2"])
    classes = Expressions("ab")
    classes.update({"expression_BK": torch.ones(2, 2)}, {"expression_B": torch.full((2,), -100)})
    assert all(math.isnan(value) for value in classes.compute().values()) and classes.details() == {}


def test_labels_that_do_not_vary_have_no_correlation_whatever_is_answered():
    true_BK = torch.full((4, 1), 0.5)
    for answers_BK in (torch.full((4, 1), 0.2), torch.arange(4.0)[:, None]):
        metric = Correlations(("awe",))
        batch = {"intensity_BK": true_BK, "intensity_mask_BK": torch.ones(4, 1, dtype=torch.bool)}
        metric.update({"intensity_BK": answers_BK}, batch)
        assert math.isnan(metric.compute()["pearson_awe"])


@pytest.mark.parametrize(
    "made",
    [
        lambda: ActionUnits((1, 2), 0.5), lambda: Expressions(("a", "b")), lambda: Circumplex(("valence",)),
        lambda: FrameCircumplex(("valence", "arousal"), "affect_BTD"), lambda: Correlations(("awe",)),
    ],
)  # fmt: skip
def test_processes_add_nothing_up_since_each_judges_all(made):
    metrics = [*_inside(made())]
    assert metrics and not any(one.sync_on_compute for one in metrics)


def _inside(thing):
    """torchmetrics' own, wherever ours keep them."""
    from torchmetrics import Metric

    if isinstance(thing, Metric):
        yield thing
    elif isinstance(thing, list):
        for one in thing:
            yield from _inside(one)
    elif isinstance(thing, dict) or type(thing).__module__.startswith("reactionnet"):
        yield from _inside([*(thing.values() if isinstance(thing, dict) else vars(thing).values())])
