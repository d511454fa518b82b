"""The tables of `models/README.md`: what learns, from `models/results.json`, and every preset, from the presets themselves.

    python tests/models_page.py            # after a preset or a result has changed; a test fails until then

`results.json` is what `tests/benchmarks/learning.py --record` wrote.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "models" / "README.md", ROOT / "models" / "results.json"
BEGIN, END = "<!-- {}: written by tests/models_page.py -->\n", "<!-- end of {} -->\n"
sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from learning import TABLES, shown, table  # noqa: E402

from reactionnet_models.catalogue import MODELS, load_model_module  # noqa: E402
from reactionnet_models.recipe import Recipe  # noqa: E402

# What a row is quoted by; others of its numbers stand in `reactionnet-train --list --json`.
CHIEF = (
    "f1", "f1_macro", "f1_scenes", "fer_accuracy", "sc_accuracy", "ccc", "ccc_mean", "ccc_valence", "ccc_arousal", "top3",
    "pearson",
)  # fmt: skip


def learned(results: Mapping[str, Any]) -> str:
    """What `learning.py` measured, a table each, Markdown."""
    found = [table(results[name]) for name in TABLES if name in results]
    return "\n".join(found) or "Nothing is measured yet.\n"


def presets(results: Mapping[str, Any]) -> str:
    """All presets of all papers, Markdown."""
    parts = []
    for name in MODELS:
        module = load_model_module(name)
        tiny = [preset for preset in module.PRESETS if preset.startswith("tiny")]
        head = ["| preset | row of the paper | published | rendered faces | command |", "|---|---|---|---|---|"]
        rows = [_row(module, name, preset, results) for preset in module.PRESETS if preset not in tiny]
        tests = f"For tests: {', '.join(f'`{preset}`' for preset in tiny)}."
        parts.append("\n".join([f"### {name}\n\n{module.PAPER}\n", *head, *rows, "", tests]))
    return "\n\n".join(parts) + "\n"


def _row(module: ModuleType, model: str, preset: str, results: Mapping[str, Any]) -> str:
    recipe: Recipe = module.RECIPES[preset]
    printed = {name: recipe.published[name] for name in CHIEF if name in recipe.published}
    published = ", ".join(f"{name} {value:g}" for name, value in printed.items())
    what = "; ".join(filter(None, (recipe.table_row, recipe.note)))
    cells = (f"`{preset}`", what, published, "; ".join(ours(model, preset, results)))
    return f"| {' | '.join(cells)} | `{_command(model, preset, recipe)}` |"


def ours(model: str, preset: str, results: Mapping[str, Any]) -> Iterator[str]:
    """What each run of a preset gave: mean, lowest and highest of the seeds, and the prior beside it."""
    for found in results.values():
        for row in found["rows"]:
            if (row["model"], row["preset"]) == (model, preset):
                what = ", ".join([*row["settings"], *([f"from {row['start']}"] if row["start"] else [])])
                scores = [
                    f"{name} {shown(score)}, prior {shown(found['prior'][name])}"
                    for name in found["scores"]
                    if (score := row["scores"][name])
                ]
                yield (f"{what}: " if what else "") + ", ".join(scores)


def _command(model: str, preset: str, recipe: Recipe) -> str:
    tables = [
        name for name, table in TABLES.items() if any((row.model, row.preset) == (model, preset) for row in table.rows)
    ]
    if tables:
        return f"python tests/benchmarks/learning.py --tables {' '.join(tables)}"
    parts = [f"reactionnet-train {model} {preset} --data {recipe.dataset.upper()}"]
    if recipe.folds:
        parts.append(f"--fold {recipe.folds[0]}" + (f" (to {recipe.folds[-1]})" if len(recipe.folds) > 1 else ""))
    if recipe.judge:
        parts.append(f"--val {recipe.judge}")
    if recipe.start:
        parts.append(f"--init RUN of {recipe.start}")
    parts += [f"--set {need}" for need in recipe.needs]
    return " ".join(parts)


def filled(page: str) -> str:
    """The page with the tables in their places. ValueError where those are not marked."""
    results = json.loads(RESULTS.read_bytes())
    for name, text in (("learned", learned(results)), ("presets", presets(results))):
        begin, end = BEGIN.format(name), END.format(name)
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"{PAGE} needs one line {begin.strip()} and one {end.strip()}")
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
