"""A tiny EMOTIC as its layout is documented (reference A7), as .mat and as csv; values are invented.

Pictures are 64 x 48 and show `<folder>/<filename>`.
"""

from pathlib import Path

import numpy as np

from fake.printed import picture, write

COCO, FRAMES, EMODB, ADE = "mscoco/images", "framesdb/images", "emodb_small/images", "ade20k/images"
# split -> pictures: folder, name, people: box, categories, VAD, gender, age; of val and test by each annotator, and combined
TRAIN = [
    (COCO, "COCO_val2014_000000000001.jpg", [
        ((6, 8, 44, 40), ["Disconnection", "Doubt/Confusion"], (5, 3, 9), "Male", "Adult"),
        ((-4, 2, 80, 47), ["Happiness"], (8, 7, 6), "Female", "Kid"),
    ]),
    (FRAMES, "frame_abc.jpg", [((1, 2, 3, 4), ["Anticipation"], (6, 4, 7), "Male", "Teenager")]),
    (FRAMES, "frame_def.jpg", [((9, 9, 20, 20), [], (), "Male", "Adult")]),
]  # fmt: skip
COMBINED = {
    "val": [(EMODB, "img_1.JPG", [((0, 0, 10, 10), [["Peace"], ["Peace", "Fear"]], [(5, 5, 5), (6, 4, 5)],
                                   ["Fear", "Peace"], (5.5, 4.5, 5.0), "Female", "Adult")])],
    "test": [(ADE, "ade_1.jpg", [((2, 2, 30, 30), [["Yearning"]], [(1, 10, 2)], ["Yearning"], (1.0, 10.0, 2.0),
                                  "Male", "Adult"),
                                 ((3, 3, 30, 30), [["Pain"]], [(4, 4, 4)], [], (), "Male", "Adult")])],
}  # fmt: skip


def write_pictures(root: Path) -> None:
    for folder, name, _ in [*TRAIN, *COMBINED["val"], *COMBINED["test"]]:
        write(root / "emotic" / folder / name, picture(f"{folder}/{name}", width=64, height=48))
        write(root / "emotic" / folder / "Thumbs.db", b"\xd0\xcf")


def affects(values: tuple) -> object:
    if not values:
        return np.empty((0, 0))
    return {name: float(value) for name, value in zip(("valence", "arousal", "dominance"), values, strict=True)}


def cell(words: list[str]) -> np.ndarray:
    found = np.empty((1, len(words)), object)
    found[0, :] = words
    return found


def structs(found: list[dict]) -> np.ndarray:
    """A MATLAB struct array, 1 x N."""
    array = np.empty((1, len(found)), [(name, object) for name in found[0]])
    for number, values in enumerate(found):
        for name, value in values.items():
            array[0, number][name] = value
    return array


def image(folder: str, name: str, people: list[dict]) -> dict:
    return {
        "filename": name, "folder": folder, "image_size": structs([{"n_col": 64, "n_row": 48}]),
        "original_database": structs([{"name": "x", "info": structs([{"a": 1}])}]), "person": structs(people),
    }  # fmt: skip


def write_mat(root: Path) -> Path:
    from scipy.io import savemat

    train = [
        image(folder, name, [
            {"bbox": np.array([box]), "annotations_categories": structs([{"categories": cell(words)}]),
             "annotations_continuous": affects(vad), "gender": gender, "age": age}
            for box, words, vad, gender, age in people
        ])
        for folder, name, people in TRAIN
    ]  # fmt: skip
    content = {"train": structs(train)}
    for split, images in COMBINED.items():
        content[split] = structs([
            image(folder, name, [
                {"bbox": np.array([box]), "annotations_categories": structs([{"categories": cell(w)} for w in said]),
                 "combined_categories": cell(words),
                 "annotations_continuous": structs([affects(values) for values in each]),
                 "combined_continuous": affects(vad), "gender": gender, "age": age}
                for box, said, each, words, vad, gender, age in people
            ])
            for folder, name, people in images
        ])  # fmt: skip
    (root / "Annotations").mkdir(parents=True)
    savemat(root / "Annotations/Annotations.mat", content)
    write_pictures(root)
    return root


HEADER = "Index,Folder,Filename,Image Size,BBox,Categorical_Labels,Continuous_Labels,Gender,Age"
CSV = {
    "train": """0,mscoco/images,COCO_val2014_000000000001.jpg,"[64, 48]","[6, 8, 44, 40]","['Disconnection', 'Doubt/Confusion']","[5, 3, 9]",Male,Adult
1,mscoco/images,COCO_val2014_000000000001.jpg,"[64, 48]","[-4, 2, 80, 47]",['Happiness'],"[8, 7, 6]",Female,Kid
2,framesdb/images,frame_abc.jpg,"[64, 48]","[1, 2, 3, 4]",['Anticipation'],"[6.0, 4.0, 7.0]",Male,Teenager
3,framesdb/images,frame_def.jpg,"[64, 48]","[9, 9, 20, 20]",[],"[nan, nan, nan]",Male,Adult
""",  # noqa: E501
    "val": """0,emodb_small/images,img_1.JPG,"[64, 48]","[0, 0, 10, 10]","['Fear', 'Peace']","[5.5, 4.5, 5.0]",Female,Adult
""",
    "test": """0,ade20k/images,ade_1.jpg,"[64, 48]","[2, 2, 30, 30]",['Yearning'],"[1.0, 10.0, 2.0]",Male,Adult
1,ade20k/images,ade_1.jpg,"[64, 48]","[3, 3, 30, 30]",[],"[nan, nan, nan]",Male,Adult
""",
}


def write_csv(root: Path) -> Path:
    for split, text in CSV.items():
        write(root / f"emotic_pre/{split}.csv", "\ufeff" + (HEADER + "\n" + text).replace("\n", "\r\n"))
    write_pictures(root)
    return root
