"""`reactionnet-predict RUN INPUT`: predictions for shards, a folder of faces, or a video; a table and pictures.

Pictures are a time line a clip and, of models that attend, sampled faces with what each output looks at.

Faces and videos become shards first, by the commands `reactionnet-import image_folder` and `reactionnet-build`, which need
to be installed. A folder of faces must show one face a picture.
"""

import hashlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer

from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_models import data as data_of
from reactionnet_models import figures
from reactionnet_models.data import Data
from reactionnet_models.features import find_device, to_device
from reactionnet_models.pretrained import Loaded, from_pretrained, recipe_of
from reactionnet_models.whole_clips import Onward, carries, end_to_end

LICENSE = "LicenseRef-prediction-only"
app = make_app()


@torch.no_grad()
def predict(
    loaded: Loaded, shards: str, split: str | None = None, *, device: str = "cpu", batch_size: int | None = None,
    look: Callable[[Mapping[str, Any], Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], None] | None = None,
) -> pa.Table:  # fmt: skip
    """One row a frame: `key`, `clip`, `frame`, `t_s`, and the model's columns; null where there is no answer, such as for
    a face without landmarks. `look` is shown each batch's items, what the model was given, and its outputs. ValueError where
    the shards cannot be read."""
    module, config = loaded.module, loaded.config
    recipe = recipe_of(loaded)
    fields = (*(field for field in recipe.fields if field != "labels"), "meta")
    stage = end_to_end(recipe.stages[-1], module, config)
    stage = replace(stage, num_frames=None) if stage.window else stage
    dataset = data_of.open_split(
        module,
        config,
        recipe,
        stage,
        Data(root=shards),
        split,
        fields=fields,
        batch_size=stage.batch_size if batch_size is None or carries(module, config) else batch_size,
    )
    where = find_device(device)
    onward = Onward(loaded.model.to(where).eval(), module, config)
    columns: dict[str, list[Any]] = {}
    for items in dataset:
        batch = module.prepare(to_device(items, where), config)
        out = onward(items, batch)
        if look is not None:
            look(items, batch, out)
        found = module.predictions(out, config)
        present = items["frame_mask"].flatten().numpy()
        answered = batch["aligned_BT"].flatten().cpu().numpy() if "aligned_BT" in batch else present
        length = items["frame_mask"].shape[1]
        rows = {
            "key": np.repeat(items["key"], length), "clip": np.repeat([m["clip_id"] for m in items["meta"]], length),
            "frame": items["frame"].flatten().numpy(), "t_s": items["t_s"].flatten().numpy(),
        }  # fmt: skip
        for name, values in rows.items():
            columns.setdefault(name, []).append(pa.array(values[present]))
        for name, values in found.items():
            if values.numel() == len(items["key"]) and length > 1:  # of a whole clip
                values = values[:, None].expand(-1, length)  # noqa: PLW2901
            flat = values.flatten().float().cpu().numpy()
            columns.setdefault(name, []).append(pa.array(flat[present], mask=~answered[present]))
    return pa.table({name: pa.chunked_array(parts) for name, parts in columns.items()})


@app.command()
def run(
    model: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, model folder, or a model of the hub.")],
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Shards, a folder of faces, or a video.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("predictions"),
    split: Annotated[str | None, typer.Option(help="Split of the shards; without it all.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    most_pictures: Annotated[int, typer.Option(min=0, help="Clips to draw.")] = 20,
    allow_missing: Annotated[bool, typer.Option(help="Leave pictures of a folder out that cannot be read.")] = False,
    attention_s: Annotated[float, typer.Option(min=0, help="Seconds between faces drawn with attention; 0: none.")] = 2.0,
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:  # fmt: skip
    """Write predictions.parquet, a picture a clip and, of models that attend, faces with their attention."""
    set_log_level(log_level)
    with refusals():
        loaded = from_pretrained(model)
        with tempfile.TemporaryDirectory() as scratch:
            landmarks = "landmarks49" in recipe_of(loaded).fields
            shards = shards_of(source, Path(scratch), landmarks=landmarks, allow_missing=allow_missing)
            one_by_one = 1 if shards != source else None  # pictures of a folder may differ in size
            out.mkdir(parents=True, exist_ok=True)
            faces = AttentionPictures(loaded, out, attention_s, most_pictures)
            table = predict(loaded, shards, split, device=device, batch_size=one_by_one, look=faces)
        pq.write_table(table, out / "predictions.parquet")
        drawn = draw(table, out, most_pictures)
    if not quiet:
        also = f", {faces.drawn} faces with attention" if faces.drawn else ""
        console.print(f"{table.num_rows} frames in {out / 'predictions.parquet'}, {drawn} pictures{also}")


def shards_of(source: str, scratch: Path, *, landmarks: bool, allow_missing: bool = False) -> str:
    """Shards as they are; a folder of pictures or a video are made into some. ValueError where that fails."""
    path = Path(source)
    if "://" in source or (path / "dataset.json").is_file():
        return source
    made = scratch / "shards"
    if path.is_dir():
        command = ["reactionnet_datasets.import_cli", "image_folder", str(path.resolve()), str(made), "-q"]
        command += ["--landmarks", "dlib"] if landmarks else []
        command += ["--allow-missing"] if allow_missing else []
    elif path.is_file():
        identity = "video-" + hashlib.sha256(path.name.encode()).hexdigest()[:12]
        row = {"video_id": identity, "uri": str(path.resolve()), "license": LICENSE}
        (scratch / "sources.jsonl").write_text(json.dumps(row) + "\n")
        command = ["reactionnet_pipeline.cli", "--sources", str(scratch / "sources.jsonl"), "--out", str(made)]
        command += ["--allow-license", LICENSE, "--embedding-model", "none", "--caption-model", "none"]
        command += ["--demographics-model", "none", "-q"]
    else:
        raise ValueError(f"{source} is neither shards, a folder of pictures, nor a video")
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode or not (made / "dataset.json").is_file():
        raise ValueError(f"no shards came of {source}: {_last_words(made, done.stdout + done.stderr)}")
    return str(made)


def _last_words(made: Path, text: str) -> str:
    for folder in (
        made,
        made.with_name(f"{made.name}.work"),
    ):  # where nothing was published they stay in the work folder
        letters = folder / "dead_letters.jsonl"
        if letters.is_file() and letters.read_text().strip():
            rows = map(json.loads, letters.read_text().splitlines())
            return "; ".join(f"{row['code']}: {row['message']}" for row in rows)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("left out:")]
    return " ".join(lines[-6:]) or "the command said nothing"


class AttentionPictures:
    """Draws what a model looks at, every `every_s` seconds of each of the first `most` clips, as batches pass by.

    Models say what there is to draw by `attention_on_faces`; of those that do not, nothing is drawn.
    """

    def __init__(self, loaded: Loaded, out: Path, every_s: float, most: int):
        self._loaded, self._out, self._every_s, self._most = loaded, out, every_s, most
        self._numbers: dict[str, int] = {}
        self._next_s: dict[str, float] = {}
        self.drawn = 0

    def __call__(
        self, items: Mapping[str, Any], batch: Mapping[str, torch.Tensor], out: Mapping[str, torch.Tensor]
    ) -> None:
        shown = getattr(self._loaded.module, "attention_on_faces", lambda *given: None)
        found = shown(out, batch, self._loaded.config) if self._every_s else None
        if found is None:
            return
        faces_NCHW, maps_NMHW, titles = found
        length = items["frame_mask"].shape[1]
        for place in range(len(faces_NCHW)):
            of, at = divmod(place, length)
            clip, t_s = items["meta"][of]["clip_id"], float(items["t_s"][of, at].nan_to_num())
            number = self._numbers.setdefault(clip, len(self._numbers))
            if number >= self._most or not batch["aligned_BT"][of, at] or t_s < self._next_s.get(clip, -math.inf):
                continue
            self._next_s[clip] = t_s + self._every_s
            frame = int(items["frame"][of, at])
            figures.draw_attention(
                faces_NCHW[place].permute(1, 2, 0).clamp(0, 1).cpu().numpy(), maps_NMHW[place].cpu().numpy(), titles[place],
                f"{clip}, frame {frame}", self._out / f"{_stem(number, clip)}-attention-{frame:06d}.png",
            )  # fmt: skip
            self.drawn += 1


def _stem(number: int, clip: str) -> str:
    return f"{number:03d}-{clip[:150]}"  # a file's name has 255 bytes


def draw(table: pa.Table, out: Path, most: int) -> int:
    """A time line for each of the first clips of more than one frame, bars for a single picture; returns how many."""
    rows = table.to_pylist()
    names = [name for name in table.column_names if name not in ("key", "clip", "frame", "t_s")]
    clips: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        clips.setdefault(row["clip"], []).append(row)
    for number, (clip, mine) in enumerate(list(clips.items())[:most]):
        path = out / f"{_stem(number, clip)}.png"
        columns = {name: [np.nan if row[name] is None else row[name] for row in mine] for name in names}
        if len(mine) > 1:
            figures.draw_timeline([row["t_s"] for row in mine], columns, clip, path)
        else:
            figures.draw_values({name: values[0] for name, values in columns.items()}, clip, path)
    return min(len(clips), most)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
