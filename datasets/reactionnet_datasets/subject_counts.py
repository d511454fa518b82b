"""How many subjects a data set has of each kind: counts from `tables/subjects`, with small cells withheld.

A count below `LEAST` could point to a person, and so could one that follows from the others: where few are withheld,
the next smallest goes with them, until at least two cells and `LEAST` subjects are hidden together.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

LEAST = 5  # subjects
ATTRIBUTES = ("age_group", "gender", "ethnicity", "emotion")


def subject_counts(subjects: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How many subjects each class of each attribute has; rows of `tables/subjects`, those without estimate left out."""
    rows = [row for row in subjects if row["crops"] is not None]
    return {name: dict(sorted(Counter(row[name] for row in rows).items())) for name in ATTRIBUTES} if rows else {}


def withheld(counts: Mapping[str, int], least: int = LEAST) -> dict[str, int | None]:
    """The counts with None for what would point to few people, or let it be worked out from the total."""
    order = sorted((number, name) for name, number in counts.items() if number)
    hidden: list[tuple[int, str]] = [cell for cell in order if cell[0] < least]
    for cell in order[len(hidden) :]:
        if not hidden or (len(hidden) > 1 and sum(number for number, _ in hidden) >= least):
            break
        hidden.append(cell)
    names = {name for _, name in hidden}
    return {name: None if name in names else number for name, number in counts.items()}
