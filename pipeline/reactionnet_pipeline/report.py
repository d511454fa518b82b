"""`run_report.json` and `report.html`."""

from pathlib import Path

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import write_atomic


def write_report(out, work, splits, facts, letters):
    write_atomic(Path(out) / "run_report.json", canonical_json(facts))
