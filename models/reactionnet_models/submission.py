"""ABAW6's submission files, one text file a task, written atomically.

    au    image_location,AU1,...,AU26            video/00001.jpg,0,1,...      0 or 1
    expr  image_location,Neutral,...,Other       video/00001.jpg,3            index along the header
    va    image_location,valence,arousal         video/00001.jpg,0.12,-0.3    -1 to 1
    ce    image_location,Fearfully_Surprised,... video/00001.jpg,5            index along the header
    emi   Filename,Admiration,...,Joy            00001,0.4,...                0 to 1

The headers of au, expr, va are those of the challenge's samples as public entries show them; the spelling of ce's and emi's
is unconfirmed. `template` is the challenge's sample file: the lines that it lists are written, in its order.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.shards import write_atomic

AUS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
COLUMNS: dict[str, tuple[str, ...]] = {
    "au": tuple(f"AU{au}" for au in AUS),
    "expr": tuple(name.capitalize() for name in classes_of("abaw8")),
    "va": ("valence", "arousal"),
    "ce": tuple(name.title() for name in classes_of("cexpr7")),
    "emi": tuple(name.replace("_", " ").title() for name in classes_of("emi6")),
}
# The same by the names of a model's outputs.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "au": tuple(f"au{au}" for au in AUS),
    "expr": classes_of("abaw8"),
    "va": ("valence", "arousal"),
    "ce": classes_of("cexpr7"),
    "emi": tuple(f"emi_{name}" for name in classes_of("emi6")),
}


def places_of(task: str, names: Sequence[str]) -> list[int]:
    """Which of a model's outputs belongs into each column. ValueError where they stand for something else."""
    wanted = OUTPUTS[task]
    if sorted(names) != sorted(wanted):
        raise ValueError(f"the outputs are {', '.join(names)}; a file of {task} wants {', '.join(wanted)}")
    return [list(names).index(name) for name in wanted]


def write_submission(path: Path, task: str, answers: Mapping[str, np.ndarray], template: Sequence[str] = ()) -> int:
    """Write the file and return its number of lines.

    `answers` are by line: `video/00001.jpg` (emi: the video) to numbers of each column, or a class index. ValueError for
    an answer that the task does not allow, or where `template` lists lines that have none.
    """
    if task not in COLUMNS:
        raise ValueError(f"task {task!r}; expected {', '.join(COLUMNS)}")
    names = list(template) or sorted(answers)
    if missing := [name for name in names if name not in answers]:
        raise ValueError(f"{len(missing)} lines of the template have no answer, the first is {missing[0]}")
    head = "Filename" if task == "emi" else "image_location"
    lines = [",".join((head, *COLUMNS[task])), *(f"{name},{_written(task, name, answers[name])}" for name in names)]
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return len(names)


def read_template(path: Path) -> list[str]:
    """Names that a sample file of the challenge lists, in its order."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
    return [line.split(",")[0].strip() for line in lines if line.strip()]


def frame_name(video: str, frame: int) -> str:
    """`video/00001.jpg` of a frame that counts from 0."""
    return f"{video}/{frame + 1:05d}.jpg"


def _written(task: str, name: str, answer: np.ndarray) -> str:
    width = len(COLUMNS[task])
    if task in ("expr", "ce"):
        index = int(answer)
        if not 0 <= index < width:
            raise ValueError(f"{name}: class {index}; {task} has {width}")
        return str(index)
    values = np.asarray(answer, dtype=np.float64).ravel()
    if len(values) != width or not np.isfinite(values).all():
        raise ValueError(f"{name}: {values.tolist()}; {task} wants {width} numbers")
    if task == "au":
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name}: {values.tolist()}; action units are 0 or 1")
        return ",".join(str(int(value)) for value in values)
    low = -1.0 if task == "va" else 0.0
    return ",".join(f"{value:.6f}" for value in values.clip(low, 1.0))
