"""The training loop of the README runs as it is printed."""

import re
from pathlib import Path

import pytest

from drawn_shards import write_dataset
from reactionnet_datasets.sample import Label

README = Path(__file__).parents[2] / "README.md"


def test_the_training_loop_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    section = README.read_text().split("## Stream it")[1]
    (loop,) = re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)

    def labels(clip, frames):
        return {"scene": Label(space="scene8", value="game" if clip % 2 else "animation")}

    write_dataset(tmp_path / "demo" / "dataset", [20, 5, 17], labels=labels, label_names=("scene",), side=256)
    monkeypatch.chdir(tmp_path)
    exec(compile(loop, "README.md", "exec"), {})
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 2
    assert losses == pytest.approx([2.1, 2.1], abs=1.0)  # about ln 8
