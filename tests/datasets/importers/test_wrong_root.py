"""Every importer, told the wrong folder: a message that says what was expected and found, never a part of an import."""

import shutil

import pytest

from fake.every import SHARED, WRITERS
from reactionnet_datasets.about import importer_names, load_importer
from reactionnet_datasets.import_plan import plan
from reactionnet_datasets.release import Release, ReleaseError

NAMES = sorted(WRITERS)
# any tree of pictures is what it reads
ANYTHING = {"image_folder"}


@pytest.fixture(scope="session")
def releases(tmp_path_factory):
    """A release of each data set, in a folder of its own; not to be changed."""
    top = tmp_path_factory.mktemp("releases")
    there = {name for name in NAMES if name != "rendered_facs" or SHARED.is_dir()}
    return {name: WRITERS[name](top / name / "release") for name in sorted(there)}


@pytest.fixture
def root_of(releases):
    def find(name):
        if name not in releases:
            pytest.skip(f"no shared recordings at {SHARED}")
        return releases[name]

    return find


def planned(name, root, tmp_path):
    """Clips and frames that an import of ROOT would have, and what it notes."""
    module = load_importer(name)
    made = plan(Release(root), module, module.Options(), tmp_path / "out", tmp_path / "work", target_bytes=1 << 20)
    return made.num_clips, made.num_frames, str(made.facts["notes"])


def refusal(name, root, tmp_path):
    with pytest.raises(ReleaseError) as caught:
        planned(name, root, tmp_path)
    return str(caught.value)


def test_every_importer_is_asked():
    assert set(NAMES) == set(importer_names())


@pytest.mark.parametrize("name", NAMES)
def test_one_level_up_or_down(name, root_of, tmp_path):
    root = root_of(name)
    below = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if name in ANYTHING:
        assert planned(name, root.parent, tmp_path)[:2] == planned(name, root, tmp_path)[:2]
        return
    for wrong in (root.parent, *below):
        message = refusal(name, wrong, tmp_path)
        assert message.startswith(f"expected {name}: ") and f"in {wrong}; found" in message
        assert f"{root} has them: is that the ROOT you mean?" in message


@pytest.mark.parametrize("name", NAMES)
def test_another_data_set(name, releases, root_of, tmp_path):
    root_of(name)
    for other, root in releases.items():
        if other == name:
            continue
        known = bool(load_importer(other).ABOUT.markers)
        try:
            told = planned(name, root, tmp_path)[2]
            assert name in ANYTHING, f"{name} imports {other}"
        except ReleaseError as error:
            told = str(error)
            assert not known or "it looks like" in told, told
        assert not known or other in told, f"{name} of {other}: {told}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["zip", "empty"])
def test_a_folder_that_is_not_unpacked(name, how, root_of, tmp_path):
    root = root_of(name)
    whole = planned(name, root, tmp_path)[:2]
    for number, folder in enumerate(sorted(path for path in root.iterdir() if path.is_dir())):
        copy = shutil.copytree(root, tmp_path / str(number) / "release")
        shutil.rmtree(copy / folder.name)
        lacking = f"{folder.name}.zip" if how == "zip" else folder.name
        (copy / lacking).write_bytes(b"PK") if how == "zip" else (copy / lacking).mkdir()
        try:
            *rest, notes = planned(name, copy, tmp_path)
        except ReleaseError as error:
            assert lacking in str(error), f"{name} without {folder.name}: {error}"
        else:
            assert tuple(rest) == whole, f"{name} without {folder.name} is imported in part"
            assert how == "empty" or lacking in notes


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder(name, tmp_path):
    (tmp_path / "release").mkdir()
    assert "found an empty folder" in refusal(name, tmp_path / "release", tmp_path)
