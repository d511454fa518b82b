"""A tiny BU-3DFE as its layout is documented (reference A17): two subjects, few scans. Pictures show their names."""

from pathlib import Path

from fake.printed import picture, write

SCANS = {
    "F0001": ("F0001_AN01WH", "F0001_DI04WH", "F0001_NE00WH", "F0001_SU02WH"),
    "M0044": ("M0044_FE03AE", "M0044_HA04AE", "M0044_SA01AE"),
}


def write_bu3dfe(root: Path) -> Path:
    for subject, names in SCANS.items():
        for name in names:
            suffix = "BMP" if name == "F0001_DI04WH" else "bmp"
            write(root / f"{subject}/{name}_F2D.{suffix}", picture(name, "BMP"))
        write(root / f"{subject}/Thumbs.db", b"\xd0\xcf")
    for form in ("F3D", "RAW"):
        write(root / f"F0001/F0001_AN01WH_{form}.wrl", "#VRML V2.0 utf8\n")
    write(root / "F0001/F0001_AN01WH_F3D.bmp", picture("a texture", "BMP"))
    write(root / "F0001.rar", b"Rar!")  # left beside what was unpacked of it
    write(root / ".DS_Store", b"\0")
    return root
