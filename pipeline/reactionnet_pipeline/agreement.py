"""How far coders agree: Cohen's kappa, F1 and ICC(3,1), an action unit at a time.

Kappa and F1 are means over the pairs of coders who both coded at least `LEAST` moments (scikit-learn); ICC(3,1), two-way
mixed, consistency, single rater (Shrout and Fleiss 1979), is over the moments that all coders of the unit coded
(pingouin). A figure that is not defined, for instance where nobody ever saw the unit, is None and never 0 or 1.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from reactionnet_pipeline.annotations import Annotation

LEAST = 5  # moments


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One label column: `moments` that at least two coders coded, `coders` who took part, and the figures."""

    label: str
    coders: int
    moments: int
    kappa: float | None
    f1: float | None = None
    icc: float | None = None


def agreement(rows: Iterable[Annotation]) -> list[Agreement]:
    """Figures for every label column that two coders or more coded; none where there is one coder only."""
    codes: dict[str, dict[tuple, dict[str, Any]]] = {}
    for row in rows:
        for name, value in row.values.items():
            if value is not None:
                moment = (row.video_id, round(row.t_s, 3), row.subject_id)
                codes.setdefault(name, {}).setdefault(moment, {})[row.coder] = value
    found = []
    for name, by_moment in sorted(codes.items(), key=_by_unit):
        shared = [by_coder for _, by_coder in sorted(by_moment.items(), key=str) if len(by_coder) > 1]
        if shared:
            found.append(_figures(name, shared))
    return found


def _by_unit(item: tuple[str, Any]) -> tuple:
    kind, _, unit = item[0].rpartition("_")
    return (kind, int(unit)) if unit.isdigit() else (item[0], 0)


def _figures(name: str, shared: Sequence[dict[str, Any]]) -> Agreement:
    coders = sorted({coder for by_coder in shared for coder in by_coder})
    pairs = []
    for one, other in combinations(coders, 2):
        both = [(c[one], c[other]) for c in shared if one in c and other in c]
        if len(both) >= LEAST:
            pairs.append(tuple(zip(*both, strict=True)))
    intensity = name.startswith("au_int")
    return Agreement(
        label=name,
        coders=len(coders),
        moments=len(shared),
        kappa=_mean(_kappa(a, b, weighted=intensity) for a, b in pairs),
        f1=_mean(_f1(a, b) for a, b in pairs) if name.startswith("au_occ") else None,
        icc=_icc(shared, coders) if intensity else None,
    )


def _mean(values: Iterable[float]) -> float | None:
    defined = [value for value in values if not math.isnan(value)]
    return round(sum(defined) / len(defined), 4) if defined else None


def _kappa(a: Sequence, b: Sequence, weighted: bool) -> float:
    """Intensities are ordered, so a near miss counts less: quadratic weights."""
    from sklearn.metrics import cohen_kappa_score

    if len({*a, *b}) < 2:
        return math.nan  # one class only: agreement by chance is certain
    return float(cohen_kappa_score(a, b, weights="quadratic" if weighted else None))


def _f1(a: Sequence, b: Sequence) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(a, b, pos_label=1, zero_division=math.nan)) if {*a, *b} <= {0, 1} else math.nan


def _icc(shared: Sequence[dict[str, Any]], coders: Sequence[str]) -> float | None:
    whole = [by_coder for by_coder in shared if len(by_coder) == len(coders)]
    if len(whole) < LEAST or len({value for by_coder in whole for value in by_coder.values()}) < 2:
        return None
    import pandas as pd
    import pingouin

    long = pd.DataFrame(
        [
            {"moment": number, "coder": coder, "value": float(value)}
            for number, by_coder in enumerate(whole)
            for coder, value in by_coder.items()
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where there is no variance, the answer is NaN: not defined
        table = pingouin.intraclass_corr(long, targets="moment", raters="coder", ratings="value")
    found = table.loc[table["Type"].isin(["ICC3", "ICC(C,1)"]), "ICC"]  # the second is pingouin's name from 0.6 on
    return _mean([float(found.iloc[0])])
