"""Croissant 1.1 metadata of an export, with the fields of its extension for responsible AI (RAI 1.0).

Croissant (Akhtar et al., DEEM 2024; docs.mlcommons.org/croissant) describes files, tables and columns so that any tool
can read records. Each Parquet file is a FileObject with its sha256, each table of the export a FileSet and a RecordSet.
RAI fields state what the tables show and, where nothing is known, that nothing is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from reactionnet_datasets.card import Facts
from reactionnet_datasets.export_parquet import PICTURE, Part
from reactionnet_datasets.tables import TABLES

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
# The context that the specification gives.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty",
            "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
            "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
            "source", "subField", "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "sc": "https://schema.org/",
}  # fmt: skip
_PARQUET = "application/x-parquet"
_ADDED = {
    "reaction": "the aligned face, as stored; null where there is none",
    "stimulus": "what is being watched, as stored; null where there is none",
    "landmarks": "68 points x, y in pixels of the reaction picture",
    "json": "the record's own json: ids, times, boxes, captions, labels, licence and provenance",
}


def croissant(facts: Facts, parts: Sequence[Part], sha256: Mapping[str, str]) -> dict[str, Any]:
    """The metadata as JSON-LD, to be written beside `data/`. `sha256` has the digest of each part's file by path."""
    configs = list(dict.fromkeys(part.config for part in parts))
    schemas = {part.config: part.schema for part in parts}
    files = [
        {
            "@type": "cr:FileObject", "@id": part.path, "name": part.path, "contentUrl": part.path,
            "encodingFormat": _PARQUET, "sha256": sha256[part.path],
        }
        for part in parts
    ]  # fmt: skip
    sets = [
        {
            "@type": "cr:FileSet", "@id": f"{config}-files", "name": f"{config}-files", "encodingFormat": _PARQUET,
            "includes": f"data/{config}/*.parquet",
        }
        for config in configs
    ]  # fmt: skip
    frames = sum(split.frames for split in facts.splits)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": facts.name,
        "description": f"{frames} frames of faces with labels, time stamps and provenance, in splits "
        + ", ".join(f"{split.split} ({split.frames})" for split in facts.splits)
        + ".",
        "license": [_license(name) for name in facts.licenses],
        "version": f"1.0.0+{facts.digest[:12]}",  # the content's own digest: an export has no other history
        "keywords": ["facial behaviour", "affective computing", facts.schema],
        "isLiveDataset": False,
        **_responsible(facts),
        "distribution": [*files, *sets],
        "recordSet": [_record_set(config, schemas[config]) for config in configs],
    }


def _license(name: str) -> str:
    """The page of an SPDX identifier; an expression or a reference stays as it is."""
    known = name.startswith(("CC-", "CC0-")) and " " not in name
    return f"https://spdx.org/licenses/{name}.html" if known else name


def _record_set(config: str, schema: pa.Schema) -> dict[str, Any]:
    described = {name: meaning for name, (_, meaning) in TABLES["windows" if config == "records" else config].items()}
    described |= _ADDED
    fields = [
        _field(config, field, described.get(field.name, _of_a_label(field.name)))
        for field in schema
        if field.name != "members"  # a list of named files, which Croissant has no type for; see the card
    ]
    return {"@type": "cr:RecordSet", "@id": config, "name": config, "field": fields}


def _field(config: str, field: pa.Field, meaning: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": f"{config}-files"}, "extract": {"column": field.name}}
    more: dict[str, Any] = {}
    kind = field.type
    if kind == PICTURE:
        source["transform"] = {"jsonPath": "bytes"}
    if field.name == "landmarks":
        more = {"isArray": True, "arrayShape": "68,2"}
    elif pa.types.is_list(kind):
        more = {"isArray": True, "arrayShape": "-1"}
    return {
        "@type": "cr:Field", "@id": f"{config}/{field.name}", "name": field.name, "description": meaning,
        "dataType": _type(kind), "source": source, **more,
    }  # fmt: skip


def _type(kind: pa.DataType) -> str:
    while pa.types.is_list(kind):
        kind = kind.value_type
    if kind == PICTURE:
        return "sc:ImageObject"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


def _of_a_label(name: str) -> str:
    if name.startswith("split_"):
        return f"split of the task {name.removeprefix('split_')}"
    if name.endswith("_mask"):
        return f"whether {name.removesuffix('_mask')} is valid, or why it is null"
    return f"label {name}; null where its mask is not valid"


def _responsible(facts: Facts) -> dict[str, Any]:
    """The RAI fields."""
    masked = [f"{one.label}: {sum(one.masked.values())} frames without" for one in facts.labels if one.masked]
    lost = ", ".join(f"{number} {code}" for code, number in sorted(facts.lost.items()))
    sources = sum(split.sources for split in facts.splits)
    biases = [
        f"{name}, subjects as a model labels their looks: "
        + ", ".join(f"{value} {'withheld' if number is None else number}" for value, number in classes.items())
        for name, classes in facts.people.items()
    ] or ["Nobody's age, gender or ethnicity was estimated: bias towards any is unknown."]
    captions = [f"stimulus captions by {decoding}: {number}" for decoding, number in sorted(facts.captions.items())]
    found = {
        "dataCollection": facts.terms
        or f"{sources} videos named in a manifest with their licences; {facts.consents} with a reference to consent.",
        "dataCollectionType": ["Others: synthetic" if facts.synthetic else "Others: videos of people"],
        "dataCollectionMissingData": "; ".join([f"sources lost: {lost}" if lost else "no source was lost", *masked]),
        "dataPreprocessingProtocol": [
            "Faces found, followed and cut out of each frame; runs of frames without a gap are clips; shards and tables by "
            f"reactionnet {facts.version}, schema {facts.schema}."
        ],
        "dataAnnotationProtocol": [
            f"{one.label}: valid in {one.valid} frames; a missing value is null with the reason in {one.label}_mask"
            for one in facts.labels
        ]
        or ["No labels."],
        "machineAnnotationTools": [*(f"{name} {digest[:16]}" for name, digest in facts.models.items()), *captions],
        "dataBiases": biases,
        "dataUseCases": [
            "Research on facial behaviour: action units, expressions, valence and arousal, reactions to what is watched. Not "
            "for recognising people, and not for deciding about anybody."
        ],
        "dataLimitations": [
            "An expression is what a face shows, not what somebody feels.",
            *(f"Left out for want of weights: {stage}." for stage in facts.left_out),
        ],
        "personalSensitiveInformation": [
            "None: the faces are synthetic."
            if facts.synthetic
            else "Faces and voices of people; subjects are known by ids.",
            *(["Gender and ethnicity as a model labels looks."] if facts.people else []),
        ],
        "dataReleaseMaintenancePlan": "A source that is taken down leaves with the next export from the data set it is in.",
    }
    return {f"rai:{name}": value for name, value in found.items() if value}
