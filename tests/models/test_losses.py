"""Losses against sums written out, and that a masked label is as if it were not there."""

import math

import pytest
import torch

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.losses import concordance, cross_entropy, log_odds, masked_mse, occurrence_weights, weighted_bce


def test_occurrence_weights_are_eq_5():
    rates = (0.211, 0.171, 0.203, 0.462, 0.549, 0.594, 0.562, 0.466, 0.169, 0.344, 0.165, 0.152)
    w, v = occurrence_weights(rates)
    total = sum(1 / rate for rate in rates)
    for j, rate in enumerate(rates):
        assert float(w[j]) == pytest.approx((1 / rate) / total, rel=1e-6)
        assert float(v[j]) == pytest.approx((1 - rate) / rate, rel=1e-6)
    assert [round(float(each), 4) for each in w[:3]] == [0.1018, 0.1256, 0.1058]


def test_a_label_that_never_occurs_has_no_weight():
    with pytest.raises(ValueError, match=r"\[0.0\]"):
        occurrence_weights((0.5, 0.0))


def test_log_odds_are_the_logits_of_shares_and_finite():
    assert log_odds((0.1, 0.5, 0.75)).sigmoid().tolist() == pytest.approx([0.1, 0.5, 0.75])
    assert log_odds((0.0, 1.0)).sigmoid().tolist() == pytest.approx([0.001, 0.999])


def test_weighted_bce_is_the_double_sum_of_eq_4():
    torch.manual_seed(0)
    logit, true = torch.randn(5, 3) * 3, torch.randint(2, (5, 3))
    w, v = occurrence_weights((0.2, 0.5, 0.7))
    total = 0.0
    for i in range(5):
        for j in range(3):
            p = 1 / (1 + math.exp(-float(logit[i, j])))
            total += float(w[j]) * (
                float(v[j]) * int(true[i, j]) * math.log(p) + (1 - int(true[i, j])) * math.log(1 - p)
            )
    mask = torch.ones(5, 3, dtype=torch.bool)
    assert float(weighted_bce(logit, true, mask, w, v)) == pytest.approx(-total / 5, rel=1e-5)


def test_weighted_bce_stays_finite_where_the_logarithm_would_not():
    w, v = occurrence_weights((0.2,))
    found = weighted_bce(torch.tensor([[-100.0]]), torch.tensor([[1.0]]), torch.tensor([[True]]), w, v)
    assert float(found) == pytest.approx(400.0)


def test_concordance_is_lins_written_out():
    torch.manual_seed(1)
    pred, true = torch.randn(40, 2), torch.randn(40, 2)
    found = concordance(pred, true, torch.ones(40, 2, dtype=torch.bool))
    for d in range(2):
        x, y = pred[:, d].tolist(), true[:, d].tolist()
        mx, my = sum(x) / 40, sum(y) / 40
        sx = sum((a - mx) ** 2 for a in x) / 39
        sy = sum((b - my) ** 2 for b in y) / 39
        sxy = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / 39
        assert float(found[d]) == pytest.approx(2 * sxy / (sx + sy + (mx - my) ** 2), rel=1e-4)
    ensure()  # torchmetrics imports torchvision
    from torchmetrics.functional import concordance_corrcoef

    torch.testing.assert_close(found, concordance_corrcoef(pred, true), atol=1e-6, rtol=1e-5)


def test_concordance_of_targets_that_are_all_alike_is_0_not_nan():
    pred = torch.randn(5, 1, requires_grad=True)
    found = concordance(pred, torch.full((5, 1), 0.3), torch.ones(5, 1, dtype=torch.bool)).sum()
    (gradient,) = torch.autograd.grad(found, pred)
    assert float(found) == 0.0 and gradient.isfinite().all()


@pytest.mark.parametrize("hidden", [float("nan"), 7.0])
def test_a_masked_label_changes_no_loss_and_gets_no_gradient(hidden):
    torch.manual_seed(2)
    mask = torch.rand(6, 3) < 0.6
    mask[0], mask[1] = False, True
    true = torch.rand(6, 3).round()
    logit = torch.randn(6, 3, requires_grad=True)
    w, v = occurrence_weights((0.2, 0.5, 0.7))
    for loss in (
        lambda t: weighted_bce(logit, t, mask, w, v),
        lambda t: masked_mse(logit, t, mask),
        lambda t: concordance(logit, t, mask).sum(),
    ):
        changed = torch.where(mask, true, torch.tensor(hidden))
        assert float(loss(changed)) == float(loss(torch.where(mask, true, 0)))
        (gradient,) = torch.autograd.grad(loss(changed), logit)
        assert not gradient[~mask].any() and gradient[mask].any()


def test_masked_classes_are_left_out_of_the_weighted_mean():
    logit, weight = torch.randn(4, 3), (0.1, 0.5, 0.4)
    true = torch.tensor([0, 2, -100, 1])
    kept, total = 0.0, 0.0
    for i in (0, 1, 3):
        share = logit[i].log_softmax(0)
        kept -= weight[true[i]] * float(share[true[i]])
        total += weight[true[i]]
    assert float(cross_entropy(logit, true, weight)) == pytest.approx(kept / total, rel=1e-5)
    assert float(cross_entropy(logit, torch.full((4,), -100), weight)) == 0.0
