"""A tiny EmotioNet as its lists are documented (reference A12); addresses and codes are invented.

Pictures show their base names. Of each list, one address is dead.
"""

from pathlib import Path

from fake.printed import picture, write

HOST = "http://example.org/emotionet"
# base name -> codes of AU 1, 2, 12, 60; everything else is 999
AUTOMATIC = {
    "N_0000000001_00001.jpg": (0, 1, 1, 999),
    "N_0000000001_00002.jpg": (1, 0, 999, 0),
    "N_0000000002_00001.jpg": (0, 0, 0, 0),  # dead
    "N_0000000003_00007.jpg": (1, 1, 0, 999),
}
DEAD = ("N_0000000002_00001.jpg", "N_0000000103_00001.jpg")
MANUAL_HEADER = "URL,URL orig,'AU 1','AU 2', 'AU 4','AU 60'"
MANUAL = {
    "N_0000000101_00001.jpg": (0, 1, 0, 999),
    "N_0000000102_00001.jpg": (1, 0, 999, 999),
    "N_0000000103_00001.jpg": (1, 1, 1, 1),  # dead
}


def write_automatic(root: Path) -> Path:
    for number, names in enumerate((("N_0000000001_00001.jpg", "N_0000000001_00002.jpg"), tuple(AUTOMATIC)[2:]), 1):
        lines = []
        for name in names:
            codes = [999] * 60
            for au, code in zip((1, 2, 12, 60), AUTOMATIC[name], strict=True):
                codes[au - 1] = code
            lines.append("\t".join([f"{HOST}/{number}/{name}", "http://example.com/o.jpg?x=1", *map(str, codes)]))
        write(root / f"dataFile_{number:04d}.txt", "\r\n".join(lines) + "\r\n")
    for name in AUTOMATIC:
        if name not in DEAD:
            suffix = name.replace(".jpg", ".JPG") if name.startswith("N_0000000003") else name
            write(root / f"images/{name[:12]}/{suffix}", picture(name))
    write(root / "images/Thumbs.db", b"\xd0\xcf")
    return root


def write_manual(root: Path, kind: str = "csv") -> Path:
    rows = [
        [f"'{HOST}/m/{name}'", f"'http://example.com/{n}.png'", *codes]
        for n, (name, codes) in enumerate(MANUAL.items())
    ]
    if kind == "csv":
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        write(root / "EmotioNet_FACS.csv", "\ufeff" + MANUAL_HEADER + "\n" + text)
    else:
        from openpyxl import Workbook

        book = Workbook()
        book.active.append(MANUAL_HEADER.split(","))
        for row in rows:
            book.active.append(row)
        root.mkdir(parents=True, exist_ok=True)
        book.save(root / "EmotioNet_FACS_aws_2020_24600.xlsx")
    for name in MANUAL:
        if name not in DEAD:
            write(root / f"images/{name}", picture(name))
    return root
