"""A tiny RAF-DB as its layout is documented (reference A14): seven basic and three compound faces, values invented.

Pictures show `<subset> <name>`, aligned ones with ` aligned`.
"""

from pathlib import Path

from fake.printed import picture, write

BASIC = """train_00001.jpg 5
train_00002.jpg 1
train_00003.jpg 2
train_00010.jpg 7
test_0001.jpg 4
test_0002.jpg 3
test_0003.jpg 6
"""
COMPOUND = "train_0001.jpg 1\ntrain_0002.jpg 11\ntest_0001.jpg 8\n"
# gender, race, group of age
ATTRIBUTES = {"train_00001": (1, 0, 2), "train_00002": (0, 2, 4), "test_0001": (2, 1, 0)}


def manual(name: str) -> str:
    points = "".join(f"{x}.5\t{x + 1}.25\n" for x in (10, 20, 30, 40, 50))
    return points + "{}\n{}\n{}\n".format(*ATTRIBUTES.get(name, (0, 0, 1)))


def write_subset(root: Path, subset: str, text: str) -> None:
    write(root / f"{subset}/EmoLabel/list_patition_label.txt", text)
    for number, line in enumerate(text.split("\n")[:-1]):
        name = line.lstrip("\ufeff").split(".")[0]
        suffix = "JPG" if name == "test_0002" else "jpg"
        write(root / f"{subset}/Image/original/{name}.{suffix}", picture(f"{subset} {name}", width=96))
        write(root / f"{subset}/Image/aligned/{name}_aligned.{suffix}", picture(f"{subset} {name} aligned"))
        write(root / f"{subset}/Annotation/manual/{name}_manu_attri.txt", manual(name).replace("\n", "\r\n"))
        points = "".join(f"{x}.0\t{number}.0\n" for x in range(37))
        write(root / f"{subset}/Annotation/auto/{name}_auto_attri.txt", points)
        write(root / f"{subset}/Annotation/boundingbox/{name}_boundingbox.txt", f"1.0 2.0 60.5 {number}.0 \n")
    write(root / f"{subset}/Image/aligned/Thumbs.db", b"\xd0\xcf")
    write(root / f"{subset}/Image/aligned.zip", b"PK")  # left beside what was unpacked of it


def write_rafdb(root: Path) -> Path:
    write_subset(root, "basic", "\ufeff" + BASIC.replace("\n", "\r\n"))
    write_subset(root, "compound", COMPOUND)
    return root
