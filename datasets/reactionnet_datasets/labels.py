"""Label columns and label spaces: what each is called, what values it may hold, and how names carry over.

A label *column* is what `tables/frames` and a record's `labels` call it: `au_occ_12`, `au_int_12`, `expression`,
`valence`, `eri_amusement`, `emi_joy`, `compound`, `scene`. A *space* says how a data set spells a column's values: the
class names in the data set's own order, or the range of a number. Classes are stored by name, never by index, and are
carried from one space to another by name, so that no two orders can be confused. Sources: the data sets' documents as
listed in each importer's docstring.
"""

import re
from dataclasses import dataclass

from reactionnet_datasets.sample import Label

# Class names in the native order; an index is the data set's code where the code counts from 0.
CLASSES: dict[str, tuple[str, ...]] = {
    "affectnet8": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
    "affectnet7": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"),
    "abaw8": ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other"),
    "abaw7": ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    "ferplus8": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    "fer2013_7": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    "rafdb7": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
    "rafdb_compound11": (
        "happily_surprised", "happily_disgusted", "sadly_fearful", "sadly_angry", "sadly_surprised", "sadly_disgusted",
        "fearfully_angry", "fearfully_surprised", "angrily_surprised", "angrily_disgusted", "disgustedly_surprised",
    ),
    "ckplus8": ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"),
    "mmi6": ("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    "bu3dfe7": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "cexpr7": (
        "fearfully_surprised", "happily_surprised", "sadly_surprised", "disgustedly_surprised", "angrily_surprised",
        "sadly_fearful", "sadly_angry",
    ),
    "fair8_alpha": ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "eri7": ("adoration", "amusement", "anxiety", "disgust", "empathic_pain", "fear", "surprise"),
    "emi6": ("admiration", "amusement", "determination", "empathic_pain", "excitement", "joy"),
    "emotic26": (
        "affection", "anger", "annoyance", "anticipation", "aversion", "confidence", "disapproval", "disconnection",
        "disquietment", "doubt_confusion", "embarrassment", "engagement", "esteem", "excitement", "fatigue", "fear",
        "happiness", "pain", "peace", "pleasure", "sadness", "sensitivity", "suffering", "surprise", "sympathy",
        "yearning",
    ),
    "scene8": ("animation", "film", "game", "object", "show", "sports", "self_made_video", "interview"),
    "yes_no": ("no", "yes"),
    "phase4": ("neutral", "onset", "apex", "offset"),
    "female_male": ("female", "male"),
    "rafdb_gender3": ("male", "female", "unsure"),
    "rafdb_race3": ("caucasian", "african_american", "asian"),
    "rafdb_age5": ("0_3", "4_19", "20_39", "40_69", "70_up"),
    "emotic_age3": ("kid", "teenager", "adult"),
}  # fmt: skip
# Open vocabularies: any name is allowed.
OPEN = ("sub_scene", "expression", "compound", "scene", "ethnicity")
# Numbers: the least and greatest value.
RANGES: dict[str, tuple[float, float]] = {
    "au_occ": (0, 1),
    "au_int": (0, 5),
    "unit": (0, 1),
    "va": (-1, 1),
    "vad10": (1, 10),
    "votes": (0, 10),
    "level": (0, 4),
}
# Other spellings of a class, as releases and papers write it.
ALIASES = {
    "happy": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "fearful": "fear",
    "surprised": "surprise",
    "disgusted": "disgust",
    "empathic-pain": "empathic_pain",
    "empathic pain": "empathic_pain",
    "doubt/confusion": "doubt_confusion",
    "self-made video": "self_made_video",
    "self-made": "self_made_video",
    "self_made": "self_made_video",
    "interview/public speech": "interview",
}
# ReactionNet codes these 17 action units.
REACTIONNET_AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A family of label columns: the pattern of its names, whether values are words, and what it means."""

    pattern: str
    words: bool
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column(pattern=r"au_occ_\d+", words=False, meaning="occurrence of a FACS action unit, 0 or 1"),
    Column(pattern=r"au_int_\d+", words=False, meaning="intensity of a FACS action unit, 0 to 5 (A to E are 1 to 5)"),
    Column(
        pattern=r"au_phase_\d+", words=True, meaning="temporal phase of an action unit: neutral, onset, apex or offset"
    ),
    Column(pattern=r"expression|compound|scene|sub_scene|gender|ethnicity", words=True, meaning="class by name"),
    Column(pattern=r"expression_fer2013", words=True, meaning="FER2013's class of a picture that FER+ has votes for"),
    Column(pattern=r"age_group", words=True, meaning="class of age, as the data set divides it"),
    Column(pattern=r"expression_level", words=False, meaning="grade of a posed expression, 1 to 4; 0 is neutral"),
    Column(pattern=r"valence|arousal|dominance", words=False, meaning="native scale of the space (va, vad10)"),
    Column(pattern=r"eri_[a-z_]+", words=False, meaning="self-reported reaction intensity, 0 to 1"),
    Column(pattern=r"emi_[a-z_]+", words=False, meaning="emotional mimicry intensity, 0 to 1"),
    Column(pattern=r"emotic_[a-z_]+", words=False, meaning="whether an annotator gave the EMOTIC category, 0 or 1"),
    Column(pattern=r"votes_[a-z_0-9]+", words=False, meaning="annotators who chose the class"),
    Column(pattern=r"age|speaking|occluded", words=False, meaning="a number"),
)


def column_of(name: str) -> Column:
    """The family that a label column belongs to. ValueError where there is none."""
    for column in COLUMNS:
        if re.fullmatch(column.pattern, name):
            return column
    raise ValueError(f"no label column is called {name!r}; known: {', '.join(column.pattern for column in COLUMNS)}")


def class_name(text: str) -> str:
    """A class as the registries spell it: lower case, one of several spellings. Not checked against a space."""
    plain = text.strip().lower()
    return ALIASES.get(plain, plain.replace(" ", "_").replace("-", "_").replace("/", "_"))


def classes_of(space: str) -> tuple[str, ...]:
    """Names of a space in its native order. ValueError where it is none of classes."""
    try:
        return CLASSES[space]
    except KeyError:
        raise ValueError(f"no classes are called {space!r}; known: {', '.join(CLASSES)}") from None


def fault_of(column: str, label: Label) -> str | None:
    """What is wrong with a label's values, in words; None where nothing is. Masked values are null and pass."""
    words = column_of(column).words
    values = [label.value] if isinstance(label.mask, str) else label.value
    for value in values:
        if value is None:
            continue
        if words:
            if not isinstance(value, str):
                return f"{column} holds {value!r}; expected the name of a class"
            if label.space in CLASSES and value not in CLASSES[label.space]:
                return f"{column} holds {value!r}, which {label.space} does not know: {', '.join(CLASSES[label.space])}"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            return f"{column} holds {value!r}; expected a number"
        elif label.space in RANGES and not RANGES[label.space][0] <= value <= RANGES[label.space][1]:
            low, high = RANGES[label.space]
            return f"{column} holds {value}; {label.space} goes from {low} to {high}"
    if label.space not in CLASSES and label.space not in RANGES and label.space not in OPEN and label.space != "number":
        return f"{column} is in the space {label.space!r}, which nobody knows"
    return None
