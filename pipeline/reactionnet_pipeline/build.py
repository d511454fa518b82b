"""The Beam graph of a build: sources in, published shards out. One line of wiring a stage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from reactionnet_datasets.splits import SPLITS
from reactionnet_datasets.stores import Place, as_place
from reactionnet_datasets.tabulate import tabulate, tabulate_captions
from reactionnet_pipeline import admitted, clips, progress
from reactionnet_pipeline.captions import CaptionClips, Captioned
from reactionnet_pipeline.config import Config
from reactionnet_pipeline.decode import decode_segment
from reactionnet_pipeline.demographics import Estimated, EstimateDemographics, by_subject
from reactionnet_pipeline.embeddings import EmbedFaces
from reactionnet_pipeline.errors import Code, DeadLetter, SourceError
from reactionnet_pipeline.identity import Config as IdentityConfig
from reactionnet_pipeline.inference import OneByOne
from reactionnet_pipeline.ingest import ingest, load_info
from reactionnet_pipeline.isolated import Isolated, one_thread
from reactionnet_pipeline.layout_files import lay_out
from reactionnet_pipeline.model_options import Weights
from reactionnet_pipeline.parts import Part, ShardRef
from reactionnet_pipeline.publish import Settings, Tabulated, publish
from reactionnet_pipeline.records import Ingested, LaidOut, Segment, SegmentPart, Source, VideoDone
from reactionnet_pipeline.segment import plan_segments
from reactionnet_pipeline.settle import settle, settled_of
from reactionnet_pipeline.sink import WriteToWebDataset
from reactionnet_pipeline.sound import resample_sound

Group = tuple[str, Sequence[SegmentPart | DeadLetter]]
LABELS = ("scene", "sub_scene", "speaking")


@dataclass(frozen=True, kw_only=True)
class Build:
    """All that a build is told. `splits` are those to write; `root` and `work` are folders, or URLs in a store; `labels`
    are columns of `frames`.

    A model stage without weights is left out.
    """

    root: str
    work: str
    splits: tuple[str, ...]
    config: Config
    target_shard_bytes: int
    max_loss: float
    versions: tuple[tuple[str, str], ...]
    facts: str
    labels: tuple[str, ...] = LABELS
    embeddings: Weights | None = None
    look_at: tuple[str, ...] = SPLITS  # what is looked at where faces decide the splits
    captions: Weights | None = None
    demographics: Weights | None = None
    key_frames: tuple[tuple[str, int], ...] = ()  # how many in each split
    replacing: str | None = None  # see `publish.Settings`
    hints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # Beam's resource hints for a stage, by label


def build_graph(pipeline: beam.Pipeline, build: Build) -> None:
    """Put the whole job into a pipeline. What it needs beyond `build` lies in the work folder (see `plan`)."""
    work, config = as_place(build.work), build.config

    def needing(label: str, transform: beam.PTransform) -> beam.PTransform:
        return label >> transform.with_resource_hints(**build.hints.get(label, {}))

    sources = (
        pipeline
        | "Start" >> beam.Create([build.work])
        | "ReadSources" >> beam.FlatMap(admitted.read_sources, build.look_at if build.embeddings else build.splits)
        | "SpreadSources" >> beam.Reshuffle()
    )
    ingested, unfetched = sources | "Ingest" >> Isolated(
        ingest_one, (work,), "ingest", config.limits.ingest_s, source_of=_itself
    )
    laid_out, unlaid = ingested | needing(
        "LayOut", Isolated(lay_out_one, (config, work), "layout", config.limits.layout_s, source_of=_of_ingested)
    )
    parts, lost = (
        laid_out
        | "PlanSegments" >> beam.FlatMap(plan_segments, config.segment.length_s)
        | "SpreadSegments" >> beam.Reshuffle()
        | needing("Decode", Isolated(
            decode_segment, (config.decode, work), "decode", config.limits.decode_s,
            source_of=_of_segment, span_of=segment_span,
        ))
    )  # fmt: skip
    videos = (
        (parts, lost)
        | "PartsAndLosses" >> beam.Flatten()
        | "ToVideo" >> beam.Map(_by_video)
        | "Barrier1" >> beam.GroupByKey()
        | "Listed" >> beam.MapTuple(_listed)
    )
    if build.embeddings:
        embed = EmbedFaces(weights=build.embeddings, config=config.embeddings, work=build.work)
        settled = (
            (videos | needing("Embed", RunInference(OneByOne(embed))), pipeline | "NoFaces" >> beam.Create([None]))
            | "Faces" >> beam.Flatten()
            | "FacesToOne" >> beam.Map(_to_one)
            | "AllFaces" >> beam.GroupByKey()
            | "Settle" >> beam.Map(_settle, work, config.identity, build.embeddings.engine)
        )
        videos = videos | "Settled" >> beam.FlatMap(_when_settled, beam.pvalue.AsSingleton(settled), work, build.splits)
    assembled, unassembled = videos | "Assemble" >> Isolated(
        assemble_one, (config.clips, work, build.embeddings is not None), "clips", config.limits.clips_s,
        source_of=_of_group,
    )  # fmt: skip
    staged = assembled | "Clips" >> beam.FlatMap(_parts_of)
    understood: list[beam.PCollection] = []  # letters and results of the model stages
    if build.captions:
        stage = CaptionClips(weights=build.captions, config=config.captions, work=build.work)
        captioned = staged | "SpreadClips" >> beam.Reshuffle() | needing("Caption", RunInference(OneByOne(stage)))
        understood.append(captioned | "CaptionLetters" >> beam.FlatMap(_letter_of))
        clips_done = captioned | "CaptionedClips" >> beam.Map(_captioned_part)
    else:
        clips_done = staged
    if build.demographics:
        estimate = EstimateDemographics(weights=build.demographics, config=config.demographics, work=build.work)
        estimated = (
            staged
            | "BySubject" >> beam.Map(by_subject)
            | "Subjects" >> beam.GroupByKey()
            | "SubjectClips" >> beam.MapTuple(_listed)
            | needing("Demographics", RunInference(OneByOne(estimate)))
        )
        understood += [estimated, estimated | "DemographicsLetters" >> beam.FlatMap(_letter_of)]
    shards = (
        clips_done
        | "WriteShards" >> WriteToWebDataset(
            root=build.root,
            target_bytes=build.target_shard_bytes,
            late=clips.ChunkJson(build.work, config.clips.dataset, build.versions),
            done=str(work / "shards"),
        )
        | "Tabulate" >> beam.Map(tabulate_one, build.root, build.labels)
    )  # fmt: skip
    settings = Settings(
        root=build.root,
        work=build.work,
        dataset=config.clips.dataset,
        splits=build.splits,
        max_loss=build.max_loss,
        facts=build.facts,
        key_frames=build.key_frames,
        replacing=build.replacing,
    )
    _ = (
        (
            shards,
            assembled | "Done" >> beam.Map(_done_of),
            assembled | "KeptLetters" >> beam.FlatMap(_letters_of),
            unfetched,
            unlaid,
            unassembled,
            *understood,
            pipeline | "Empty" >> beam.Create([None]),  # publish even where not one source was admitted
        )
        | "Arrivals" >> beam.Flatten()
        | "ToOne" >> beam.Map(_to_one)
        | "Barrier3" >> beam.GroupByKey()
        | "Publish" >> beam.Map(_publish, settings)
    )


def _listed(key: str, arrived: Iterable[Any]) -> tuple[str, list[Any]]:
    return key, list(arrived)


def _settle(keyed: tuple[int, Iterable[Any]], work: Place, config: IdentityConfig, engine: str) -> str:
    one_thread()  # not every runner starts the workers with one
    return settle((one for one in keyed[1] if one is not None), work, config, engine)


def _when_settled(group: Group, settled: str, work: Place, splits: tuple[str, ...]) -> Iterable[Group]:
    """Videos of the splits to write, once it is known which these are; `settled` makes the runner wait for that."""
    if admitted.find_row(work, group[0])["split"] in splits:
        yield group


def _parts_of(video: clips.Assembled) -> tuple[Part, ...]:
    return video.parts


def _letters_of(video: clips.Assembled) -> tuple[DeadLetter, ...]:
    return video.letters


def _captioned_part(captioned: Captioned) -> Part:
    return captioned.part


def _letter_of(result: Captioned | Estimated) -> tuple[DeadLetter, ...]:
    return (result.letter,) if result.letter else ()


def _done_of(video: clips.Assembled) -> VideoDone:
    return video.done


def _to_one(arrival: Any) -> tuple[int, Any]:
    return 0, arrival


def _publish(keyed: tuple[int, Iterable[Any]], settings: Settings) -> dict[str, Any]:
    return publish((arrival for arrival in keyed[1] if arrival is not None), settings)


def ingest_one(source: Source, work: Place) -> Ingested:
    """Stage 0, with the number of frames told to the progress bar."""
    progress.report(work, "sources", 1)
    ingested = ingest(source, work, admitted.tombstones_of(work))
    progress.report(work, "found", load_info(ingested.probe).num_frames)
    return ingested


def lay_out_one(ingested: Ingested, config: Config, work: Place) -> LaidOut:
    """Stage 1: the layout and, once there is one, the sound. Raises NO_LAYOUT where no pane shows a reaction."""
    try:
        layout = lay_out(ingested, config.layout, work)
        laid_out = LaidOut(ingested=ingested, layout=layout, sound=resample_sound(ingested, work))
        if not plan_segments(laid_out, config.segment.length_s):
            raise SourceError(Code.NO_LAYOUT, "no pane shows a reaction")
    except SourceError:
        progress.report(work, "decode", load_info(ingested.probe).num_frames)
        raise
    return laid_out


def segment_span(segment: Segment) -> tuple[float, float]:
    """The seconds that are lost with a segment."""
    info = load_info(segment.laid_out.ingested.probe)
    return round(float(info.times_s[segment.first]), 3), round(float(info.times_s[segment.stop - 1] + 1 / info.fps), 3)


def assemble_one(group: Group, config: clips.Config, work: Place, by_face: bool = False) -> clips.Assembled:
    """Barrier 1 for one video. Where only some segments were lost the others are kept, and the letters say so.

    `by_face`: who is who, and the split, was settled over all videos. Raises SourceError(SPLIT_CONFLICT) where it could
    not be.
    """
    video_id, arrived = group
    decided = settled_of(work, video_id) if by_face else None
    if decided and decided.conflict:
        raise SourceError(Code.SPLIT_CONFLICT, f"a face that is seen here {decided.conflict}")
    parts = [part for part in arrived if isinstance(part, SegmentPart)]
    lost = [letter for letter in arrived if isinstance(letter, DeadLetter)]
    if not parts:
        first = min(lost, key=lambda letter: letter.lost_start_s or 0.0)
        raise SourceError(first.code, first.message)
    assembled = clips.assemble(
        video_id, parts, config, work, decided.known if decided else None, decided.split if decided else None
    )
    return replace(assembled, letters=(*assembled.letters, *(replace(letter, kept=True) for letter in lost)))


def tabulate_one(shard: ShardRef, root: str, labels: tuple[str, ...]) -> Tabulated:
    """The table parts of one shard."""
    parts = tabulate(as_place(root), shard.info, labels)
    return Tabulated(shard=shard, parts=parts, captions=tabulate_captions(as_place(root), shard.info))


def _itself(source: Source) -> Source:
    return source


def _of_ingested(ingested: Ingested) -> Source:
    return ingested.source


def _of_segment(segment: Segment) -> Source:
    return segment.laid_out.ingested.source


def _by_video(arrived: SegmentPart | DeadLetter) -> tuple[str, SegmentPart | DeadLetter]:
    return (arrived.video_id if isinstance(arrived, DeadLetter) else _of_part(arrived).video_id), arrived


def _of_part(part: SegmentPart) -> Source:
    return part.laid_out.ingested.source


def _of_group(group: Group) -> Source:
    """A letter for a video at the barrier needs its id and line only; the line travels with parts and letters."""
    arrived = group[1][0]
    if isinstance(arrived, DeadLetter):
        return Source(video_id=arrived.video_id, line=arrived.line or 0, uri="", split="")
    return _of_part(arrived)
