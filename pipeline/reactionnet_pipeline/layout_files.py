"""Layouts on file, and which one a source gets: a human's, else the detected one."""

import json
from dataclasses import asdict

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import write_atomic
from reactionnet_datasets.stores import Place
from reactionnet_pipeline import layout as layout_stage
from reactionnet_pipeline.cache import cached, fingerprint, library_versions
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.ingest import load_info, source_file
from reactionnet_pipeline.records import Ingested, Layout, Pane
from reactionnet_pipeline.video import VideoInfo


def lay_out(ingested: Ingested, config: layout_stage.Config, work: Place) -> str:
    """File of the source's layout. Raises what `layout.find_layout` raises, and NO_LAYOUT for an impossible drawn one."""
    source, info = ingested.source, load_info(ingested.probe)
    window = (source.start_s, source.end_s)
    if source.layout is not None:
        key = fingerprint(stage="drawn", content=ingested.sha256, layout=source.layout, window=window)
        found = cached(
            work, "layout", source.video_id, key,
            lambda stem: _save(stem, _windowed(_drawn(source.layout, info), *window)),
        )  # fmt: skip
    else:
        key = fingerprint(
            stage="layout", version=layout_stage.VERSION, content=ingested.sha256, config=config, window=window,
            libraries=library_versions(),
        )  # fmt: skip
        found = cached(
            work, "layout", source.video_id, key,
            lambda stem: _save(stem, _windowed(_detected(ingested, info, config), *window)),
        )  # fmt: skip
    return str(work / "layout" / found["file"])


def _detected(ingested: Ingested, info: VideoInfo, config: layout_stage.Config) -> Layout:
    with source_file(ingested) as file:
        return layout_stage.find_layout(file, info, config)


def _save(stem: Place, layout: Layout) -> dict[str, str]:
    path = stem.with_name(stem.name + ".layout.json")
    write_atomic(path, canonical_json(asdict(layout)))
    return {"file": path.name}


def load_layout(path: Place) -> Layout:
    """The layout that `lay_out` put on file."""
    content = json.loads(path.read_bytes())
    return Layout(panes=tuple(Pane(**pane) for pane in content["panes"]), origin=content["origin"])


def _drawn(layout: Layout | None, info: VideoInfo) -> Layout:
    assert layout is not None
    for pane in layout.panes:
        if pane.x + pane.w > info.width or pane.y + pane.h > info.height or pane.start_s >= info.end_s:
            raise SourceError(
                Code.NO_LAYOUT,
                f"drawn pane {pane.x},{pane.y} {pane.w}x{pane.h} from {pane.start_s} s lies outside the video of"
                f" {info.width}x{info.height} pixels and {info.end_s:.2f} s",
            )
    return _windowed(layout, None, info.end_s)


def _windowed(layout: Layout, start_s: float | None, end_s: float | None) -> Layout:
    """Panes cut to the part of the video that the manifest asks for."""
    low, high = start_s or 0.0, float("inf") if end_s is None else end_s
    panes = [
        Pane(**{**asdict(pane), "start_s": max(pane.start_s, low), "end_s": min(pane.end_s, high)})
        for pane in layout.panes
        if pane.start_s < high and pane.end_s > low
    ]
    if not panes:
        raise SourceError(Code.NO_LAYOUT, f"no pane between {low} and {high} s")
    return Layout(panes=tuple(panes), origin=layout.origin)
