"""Rules that make training targets of native labels at load time, each with a name that says what it does.

    intensity>=2             au_occ_N from au_int_N: 1 where the intensity is at least 2 (DISFA's protocol)
    ferplus:majority         expression from the ten votes_* columns: single votes struck out, more than half of the rest
    ferplus:argmax8          the emotion with most votes, the first of equals (unknown and no-face votes not looked at)
    ferplus:argmax10         the same over all ten; unknown or no face in front gives none
    ferplus:probability      the likeliest emotions' share of the votes, until three quarters of them are counted (a vector)
    ferplus:multi_target     1 for each emotion that has 30 % of the votes (a vector)
    abaw:row                 au_occ_N where all twelve units of ABAW are valid: its baselines drop a row with any -1
    (x-5.5)/4.5  x/5  x*2    arithmetic on the column itself
    scale:va                 numbers of whatever space (va, vad10) brought to this one's range: EMOTIC's 1 to 10 to -1 to 1
    classes:abaw7            class index in a registered space, by name; a name that it lacks gives none
    classes:film,game,show   the same for a list given here

A rule that gives no value masks the frame. Numbers are float32, NaN under a mask; class indexes are int64, -100 under a
mask, which `cross_entropy` ignores by default. FER+ rules: Barsoum et al., ICMI 2016, and the authors' reader.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reactionnet_datasets.labels import CLASSES, OPEN, RANGES, class_name, classes_of, column_of

MASKED_CLASS = -100
ABAW_AUS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)  # from ABAW2 on
FERPLUS_VOTES = (*CLASSES["ferplus8"], "unknown", "nf")
# What is said of a whole clip; all other columns are of a frame.
_OF_A_CLIP = re.compile(r"(eri|emi)_[a-z_]+|scene|sub_scene|gender|ethnicity|age(_group)?")

_INTENSITY = re.compile(r"intensity>=(\d+(?:\.\d+)?)")
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_ARITHMETIC = re.compile(rf"(?:\(x([-+]\d+(?:\.\d+)?)\)|x)(?:([*/]){_NUMBER})?")


@dataclass(frozen=True, kw_only=True)
class Values:
    """Values of one native column in one record, None where masked; a single one where it is of the whole record."""

    values: Sequence[Any]
    space: str


# Native columns of a record, n values each -> targets and whether each is valid.
Derive = Callable[[Mapping[str, Values]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a target is made: from which columns, by what, and of what kind.

    `classes` names the classes of an index, empty for numbers and None where the records' own space decides. `width` is
    the length of a vector target, 0 for a scalar.
    """

    target: str
    text: str
    sources: tuple[str, ...]
    derive: Derive
    classes: tuple[str, ...] | None = ()
    width: int = 0

    @property
    def of_a_clip(self) -> bool:
        """Whether the target has one value an item rather than one a frame."""
        return bool(_OF_A_CLIP.fullmatch(self.target))

    @property
    def is_class(self) -> bool:
        """Whether the target is a class index."""
        return self.classes != ()

    def missing(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        """`num` masked targets."""
        shape = (num, self.width) if self.width else (num,)
        if self.is_class:
            return np.full(shape, MASKED_CLASS, np.int64), np.zeros(num, bool)
        return np.full(shape, np.nan, np.float32), np.zeros(num, bool)


def make_rules(labels: Sequence[str] | Mapping[str, str | None]) -> tuple[Rule, ...]:
    """One rule a target; names alone are taken as they are. ValueError for a name or rule that nobody knows."""
    rules = labels.items() if isinstance(labels, Mapping) else ((name, None) for name in labels)
    return tuple(make_rule(target, text) for target, text in rules)


def make_rule(target: str, text: str | None = None) -> Rule:
    """The rule of one target column. ValueError where the rule is unknown or does not fit the column."""
    column = column_of(target)
    if text is None:
        if not column.words:
            return Rule(target=target, text="", sources=(target,), derive=_arithmetic(target, 0.0, "*", 1.0))
        return Rule(target=target, text="", sources=(target,), derive=_own_space(target), classes=None)
    plain = text.replace(" ", "")
    if match := _INTENSITY.fullmatch(plain):
        if not target.startswith("au_occ_"):
            raise ValueError(f"rule {text!r} makes au_occ_N from au_int_N; it does not fit {target!r}")
        source = target.replace("au_occ_", "au_int_")
        return Rule(target=target, text=plain, sources=(source,), derive=_threshold(source, float(match[1])))
    if plain.startswith("ferplus:"):
        return _ferplus(target, plain)
    if plain == "abaw:row":
        return _whole_row(target, plain)
    if plain.startswith("classes:"):
        return _classes(target, plain)
    if plain.startswith("scale:"):
        return _scaled(target, plain)
    match = _ARITHMETIC.fullmatch(plain)
    if match and (match[1] or match[2]):
        if column.words:
            raise ValueError(f"rule {text!r} is for numbers; {target!r} holds names")
        shift, operator, factor = float(match[1] or 0), match[2] or "*", float(match[3] or 1)
        if operator == "/" and factor == 0:
            raise ValueError(f"rule {text!r} divides by zero")
        return Rule(target=target, text=plain, sources=(target,), derive=_arithmetic(target, shift, operator, factor))
    raise ValueError(
        f"no rule is called {text!r}; known: intensity>=N, ferplus:majority, ferplus:argmax8, ferplus:argmax10, "
        "ferplus:probability, ferplus:multi_target, abaw:row, classes:SPACE, classes:a,b,c, scale:SPACE, (x-A)/B"
    )


def _arithmetic(source: str, shift: float, operator: str, factor: float) -> Derive:
    def derive(columns: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
        numbers, valid = _numbers(columns[source])
        moved = numbers + shift
        return (moved / factor if operator == "/" else moved * factor).astype(np.float32), valid

    return derive


def _scaled(target: str, plain: str) -> Rule:
    to = plain.removeprefix("scale:")
    if to not in RANGES or column_of(target).words:
        raise ValueError(f"rule {plain!r} for {target!r}: expected numbers and one of {', '.join(RANGES)}")
    low, high = RANGES[to]

    def derive(columns: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
        numbers, valid = _numbers(columns[target])
        space = columns[target].space
        if space == to:
            return numbers.astype(np.float32), valid
        if space not in RANGES:
            raise ValueError(f"{target} is in {space!r}, whose range is not known: it cannot be brought to {to}")
        least, most = RANGES[space]
        return ((numbers - least) / (most - least) * (high - low) + low).astype(np.float32), valid

    return Rule(target=target, text=plain, sources=(target,), derive=derive)


def _threshold(source: str, least: float) -> Derive:
    def derive(columns: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
        numbers, valid = _numbers(columns[source])
        return np.where(valid, numbers >= least, np.nan).astype(np.float32), valid

    return derive


def _whole_row(target: str, plain: str) -> Rule:
    sources = tuple(f"au_occ_{au}" for au in ABAW_AUS)
    if target not in sources:
        raise ValueError(f"rule {plain!r} for {target!r}: expected one of {', '.join(sources)}")

    def derive(columns: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
        numbers, _ = _numbers(columns[target])
        valid = np.all([_numbers(columns[source])[1] for source in sources], axis=0)
        return np.where(valid, numbers, np.nan).astype(np.float32), valid

    return Rule(target=target, text=plain, sources=sources, derive=derive)


def _numbers(column: Values) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.array(column.values, np.float64)  # None becomes NaN
    return numbers, ~np.isnan(numbers)


def _own_space(source: str) -> Derive:
    def derive(columns: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
        space = columns[source].space
        if space not in CLASSES:
            known = "an open vocabulary" if space in OPEN else f"the unknown space {space!r}"
            raise ValueError(
                f"{source} is in {known}; say which classes count, such as classes:scene8 or classes:a,b,c"
            )
        return _indexes(columns[source].values, CLASSES[space])

    return derive


def _indexes(names: Sequence[Any], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    place = {name: number for number, name in enumerate(classes)}
    indexes = [MASKED_CLASS if name is None else place.get(class_name(name), MASKED_CLASS) for name in names]
    targets = np.array(indexes, np.int64)
    return targets, targets != MASKED_CLASS


def _classes(target: str, plain: str) -> Rule:
    if not column_of(target).words:
        raise ValueError(f"rule {plain!r} is for names; {target!r} holds numbers")
    listed = plain.removeprefix("classes:")
    classes = tuple(class_name(name) for name in listed.split(",")) if "," in listed else classes_of(listed)
    if len(set(classes)) != len(classes) or "" in classes:
        raise ValueError(f"rule {plain!r} names a class twice or an empty one")

    def derive(columns: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
        return _indexes(columns[target].values, classes)

    return Rule(target=target, text=plain, sources=(target,), derive=derive, classes=classes)


def _ferplus(target: str, plain: str) -> Rule:
    choose = _FERPLUS.get(plain.removeprefix("ferplus:"))
    if choose is None or target != "expression":
        raise ValueError(f"rule {plain!r} for {target!r}: expected expression by ferplus:{', '.join(_FERPLUS)}")
    sources = tuple(f"votes_{name}" for name in FERPLUS_VOTES)

    def derive(columns: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
        votes = np.stack([_numbers(columns[source])[0] for source in sources], axis=1)
        valid = ~np.isnan(votes).any(axis=1)
        targets, given = choose(np.where(valid[:, None], votes, 0))
        valid = valid & given
        if targets.ndim == 2:
            return np.where(valid[:, None], targets, np.nan).astype(np.float32), valid
        return np.where(valid, targets, MASKED_CLASS).astype(np.int64), valid

    if plain in ("ferplus:probability", "ferplus:multi_target"):
        return Rule(target=target, text=plain, sources=sources, derive=derive, width=len(CLASSES["ferplus8"]))
    return Rule(target=target, text=plain, sources=sources, derive=derive, classes=CLASSES["ferplus8"])


def _without_single_votes(votes: np.ndarray) -> np.ndarray:
    return np.where(votes <= 1, 0, votes)


def _majority(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = _without_single_votes(votes)
    winner = kept.argmax(axis=1)
    return winner, (kept.max(axis=1) > kept.sum(axis=1) / 2) & (winner < 8)


def _argmax8(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return votes[:, :8].argmax(axis=1), votes[:, :8].max(axis=1) > 0


def _argmax10(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    winner = votes.argmax(axis=1)
    return winner, (winner < 8) & (votes.max(axis=1) > 0)


def _probability(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = _without_single_votes(votes)
    return _believed(np.stack([_likeliest(row) for row in kept]) if len(kept) else kept, kept)


def _likeliest(votes: np.ndarray) -> np.ndarray:
    """Votes of the classes that most chose, in order, up to three quarters of all or three classes; equals together.

    Unknown or no face ends the list, and is not on it behind an emotion. More than three classes (equals) are none.
    """
    chosen, rest = np.zeros_like(votes), votes.copy()
    while chosen.sum() < 0.75 * votes.sum() and np.count_nonzero(chosen) < 3 and rest.any():
        for place in np.flatnonzero(rest == rest.max()):
            chosen[place], rest[place] = rest[place], 0
            if place >= 8:
                if np.count_nonzero(chosen) > 1:
                    chosen[place] = 0
                rest[:] = 0
                break
    return np.zeros_like(votes) if np.count_nonzero(chosen) > 3 else chosen


def _multi_target(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = _without_single_votes(votes)
    share, given = _believed(np.where(kept >= 0.3 * kept.sum(axis=1, keepdims=True), kept, 0), kept)
    return (share > 0).astype(float), given


def _believed(chosen: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chosen emotions' shares; given where they are of more than half of the votes and one of them leads."""
    emotions = chosen[:, :8]
    given = (chosen.sum(axis=1) > kept.sum(axis=1) / 2) & (chosen.argmax(axis=1) < 8) & emotions.any(axis=1)
    return emotions / np.maximum(emotions.sum(axis=1), 1)[:, None], given


_FERPLUS = {
    "majority": _majority, "argmax8": _argmax8, "argmax10": _argmax10, "probability": _probability,
    "multi_target": _multi_target,
}  # fmt: skip
