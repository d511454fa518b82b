"""Distributions over subjects for the report: counts from `tables/subjects`, with small cells withheld."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from reactionnet_datasets.subject_counts import LEAST, subject_counts, withheld

CAVEATS = (
    "Estimated by DeepFace's nets from how faces look: apparent age, not age; how a model labels a face, not how"
    " somebody identifies.",
    "The nets were trained on celebrities and film stills; published audits of such nets find error rates that differ"
    " several fold between groups, so a share here is no unbiased share of people.",
    "Two genders and six ethnicities are all that the model can say; many people are none of them.",
    "Subjects are counted once each, however long they are seen. Without subject_ids in the manifest one person may count"
    " as several.",
    "Good for judging how one-sided a data set is; not for labels of single people, and not for deciding about anybody.",
)


def demographic_facts(subjects: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """For `run_report.json`: number of subjects, and counts with small cells withheld. None without estimates."""
    rows = list(subjects)
    counts = subject_counts(rows)
    if not counts:
        return None
    return {
        "subjects": len(rows),
        "estimated": sum(row["crops"] is not None for row in rows),
        "counts": {name: withheld(classes) for name, classes in counts.items()},
    }


def demographic_section(facts: Mapping[str, Any] | None) -> str:
    """The page's section; empty where nothing was estimated."""
    if not facts:
        return ""
    tables = "".join(
        f"<table><tr><th>{name.replace('_', ' ')}</th><th class=n>subjects</th></tr>"
        + "".join(
            f"<tr><td>{escape(value)}</td><td class=n>{'withheld' if count is None else format(count, ',')}</td></tr>"
            for value, count in classes.items()
        )
        + "</table>"
        for name, classes in facts["counts"].items()
    )
    caveats = "".join(f"<li>{escape(text)}</li>" for text in CAVEATS)
    return (
        f"<h2>Subjects</h2><p>{facts['estimated']:,} of {facts['subjects']:,} subjects were estimated. Counts of fewer"
        f" than {LEAST}, and what would tell them, are withheld.</p>{tables}<ul class='dim'>{caveats}</ul>"
    )


def left_out_section(stages: Iterable[Mapping[str, str]]) -> str:
    """What did not run, why, and how to switch it on; empty where everything ran."""
    rows = "".join(
        f"<tr><td>{escape(one['stage'])}</td><td>{escape(one['reason'])}</td><td>{escape(one['remedy'])}</td></tr>"
        for one in stages
    )
    if not rows:
        return ""
    return f"<h2>Stages left out</h2><table><tr><th>stage</th><th>why</th><th>to have it</th></tr>{rows}</table>"
