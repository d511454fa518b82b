"""Who is who over the manifest: limits that no vector moves, names, and what a curator may say."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactionnet_datasets.splits import Member
from reactionnet_pipeline import admitted
from reactionnet_pipeline.embeddings import Embedded
from reactionnet_pipeline.identity import (
    BLOCK,
    NEVER,
    SAME_PLACE,
    Config,
    Curated,
    Face,
    _distances,
    _near,
    identify,
    pair_scores,
    read_curated,
)
from reactionnet_pipeline.settle import settle, settled_of

CUT = 0.45
NOBODY = Curated()


def face(video: str, place: float | None, person: int = 0, frames=(0, 99), chain: str | None = None, **more) -> Face:
    """A track whose vector is one number: people at places 1 apart."""
    vector = None if place is None else np.array([place, 0.0])
    return Face(
        video_id=video, chain=chain or f"c{person}-{frames[0]}", person=person, frames=frames, vector=vector, **more
    )


def subjects(faces, curated: Curated = NOBODY) -> dict[str, str]:
    """Subject by video and chain."""
    return {
        f"{video}/{chain}": subject
        for video, known in identify(faces, curated, CUT).items()
        for chains, subject in zip(known.chains, known.subjects, strict=True)
        for chain in chains
    }


def test_one_face_in_two_videos_is_one_subject_named_after_the_first():
    assert subjects([face("b", 0.1), face("a", 0.0), face("c", 1.0)]) == {
        "a/c0-0": "a#1",
        "b/c0-0": "a#1",
        "c/c0-0": "c#1",
    }


def test_two_faces_in_one_frame_are_two_people_however_alike():
    twins = [face("a", 0.0), face("a", 0.01, person=1), face("b", 0.0)]
    found = subjects(twins)
    assert found["a/c0-0"] != found["a/c1-0"]
    assert found["b/c0-0"] in (found["a/c0-0"], found["a/c1-0"])


def test_somebody_else_in_the_same_seat_is_somebody_else():
    found = subjects([face("a", 0.0, frames=(0, 9)), face("a", 1.0, frames=(50, 99))])
    assert len(set(found.values())) == 2


def test_place_and_time_count_where_faces_are_in_doubt():
    doubt = CUT * 1.1
    assert len(set(subjects([face("a", 0.0, frames=(0, 9)), face("a", doubt, frames=(50, 99))]).values())) == 1
    assert len(set(subjects([face("a", 0.0), face("b", doubt)]).values())) == 2


def test_a_track_without_a_good_picture_goes_with_its_seat():
    found = subjects([face("a", 0.0, frames=(0, 9)), face("a", None, frames=(20, 22)), face("b", 0.05)])
    assert set(found.values()) == {"a#1"}


def test_the_manifest_wins_over_faces():
    alike = [face("a", 0.0, subject="ann"), face("b", 0.0, subject="bea"), face("c", 0.01)]
    found = subjects(alike)
    assert (found["a/c0-0"], found["b/c0-0"]) == ("ann", "bea")
    unlike = [face("a", 0.0, subject="ann"), face("b", 5.0, subject="ann")]
    assert set(subjects(unlike).values()) == {"ann"}


def test_faces_fill_the_gaps_of_the_manifest():
    assert set(subjects([face("a", 0.0, subject="ann"), face("b", 0.1)]).values()) == {"ann"}


def test_a_curator_wins_over_both(tmp_path):
    file = tmp_path / "curated.jsonl"
    file.write_text('{"merge": ["a#1", "b#1"]}\n\n{"split": ["c#1", "d#1"]}\n')
    found = subjects([face("a", 0.0), face("b", 3.0), face("c", 7.0), face("d", 7.0)], read_curated(file))
    assert found["a/c0-0"] == found["b/c0-0"] and found["c/c0-0"] != found["d/c0-0"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"merge": ["a#1"]}', "line 1"),
        ('{"join": ["a#1", "b#1"]}', "line 1"),
        ("nonsense", "line 1"),
        ('{"merge": ["a#1", "zoe"]}', "zoe"),
        ('{"merge": ["a#1", "a#2"]}', "in one frame"),
    ],
)
def test_what_a_curator_cannot_mean_is_named(tmp_path, line, what):
    file = tmp_path / "curated.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(ValueError, match=what):
        identify([face("a", 0.0), face("a", 1.0, person=1), face("b", 2.0)], read_curated(file), CUT)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40)), min_size=1, max_size=14), st.randoms())
def test_a_union_of_clusters_gives_the_same_clusters_alone(seen, random):
    faces = [face(video, k / 10, person=n, frames=(n * 200, n * 200 + 99)) for n, (video, k) in enumerate(seen)]
    whole = subjects(faces)
    random.shuffle(faces)
    assert subjects(faces) == whole
    chosen = set(random.sample(sorted(set(whole.values())), k=max(1, len(set(whole.values())) // 2)))
    part = subjects([one for one in faces if whole[f"{one.video_id}/{one.chain}"] in chosen])
    groups = {frozenset(key for key, name in part.items() if name == subject) for subject in part.values()}
    assert groups == {frozenset(key for key, name in whole.items() if name == subject) for subject in chosen}


def test_pairs_are_counted_by_hand():
    true = {"1": "a", "2": "a", "3": "b", "4": "b"}
    assert pair_scores(true, {"1": "x", "2": "x", "3": "x", "4": "y"}) == (pytest.approx(1 / 3), 0.5)


def store(work, video: str, place: float) -> Embedded:
    (work / "embeddings").mkdir(parents=True, exist_ok=True)
    file = f"embeddings/{video}.npz"
    np.savez(
        work / file, chain=np.array(["c"]), person=np.array([0]), subject=np.array([""]), frames=np.array([[0, 9]]),
        crops=np.array([3]), vector=np.array([[place, 0.0]]),
    )  # fmt: skip
    return Embedded(video_id=video, file=file)


def test_splits_follow_from_faces_and_a_locked_face_is_not_moved(tmp_path):
    ratio, videos = (0.4, 0.3, 0.3), "abcdef"
    faces = [store(tmp_path, video, place) for video, place in zip(videos, (0, 0, 1, 2, 3, 4), strict=True)]
    members = [Member(video_id=video) for video in videos]
    admitted.write_members(tmp_path, members, ratio, {})
    settle(faces, tmp_path, Config(cut=0.4), "dlib")
    first = {video: settled_of(tmp_path, video) for video in videos}
    assert first["a"].split == first["b"].split
    assert len({one.split for one in first.values()}) == 3
    lock = json.loads((tmp_path / "plan" / "splits.lock").read_bytes())["splits"]
    # somebody new who looks like people of two splits: between c and d, now that they are locked apart or together
    apart = next(v for v in "cdef" if first[v].split != first["a"].split)
    place = {"c": 1, "d": 2, "e": 3, "f": 4}[apart]
    both = [*faces, store(tmp_path, "g", 0.0)]
    np.savez(
        tmp_path / "embeddings/g.npz", chain=np.array(["c", "e"]), person=np.array([0, 1]), subject=np.array(["", ""]),
        frames=np.array([[0, 9], [0, 9]]), crops=np.array([3, 3]), vector=np.array([[0.0, 0.0], [place, 0.0]]),
    )  # fmt: skip
    admitted.write_members(tmp_path, [*members, Member(video_id="g")], ratio, lock)
    settle(both, tmp_path, Config(cut=0.4), "dlib")
    assert {video: settled_of(tmp_path, video).split for video in videos} == {v: first[v].split for v in videos}
    assert "would join groups locked in" in settled_of(tmp_path, "g").conflict


def test_pairs_are_the_same_block_by_block():
    rng = np.random.default_rng(0)
    vector_UD = rng.random((BLOCK + 60, 3))
    has_U = rng.random(len(vector_UD)) < 0.5
    blocks = [_near(vector_UD, has_U, low, right, 0.05) for low, right in [(0, 0), (0, BLOCK), (BLOCK, BLOCK)]]
    found = {(int(a), int(b)) for part in blocks for a, b in zip(*part, strict=True)}
    distance_UU = np.linalg.norm(vector_UD[:, None] - vector_UD[None], axis=2)
    wanted = np.argwhere((distance_UU < 0.05) & has_U[:, None] & has_U[None])
    assert found == {(int(a), int(b)) for a, b in wanted if a < b}
    assert len(found) > 100


def test_what_is_known_beside_the_vectors_is_put_into_the_distances():
    vector_MD = np.array([[0.0], [1.0], [2.0], [4.0]])
    members = np.array([3, 5, 8, 9])
    people_U = [set() for _ in range(10)]
    people_U[3], people_U[8], people_U[9] = {"a#1"}, {"a#1", "b#1"}, {"b#1"}
    subject_U = [None] * 10
    subject_U[5], subject_U[9] = "ann", "bob"
    found = _distances(vector_MD, members, people_U, subject_U, {3: [5, 7]})
    # in scipy's order: 3-5, 3-8, 3-9, 5-8, 5-9, 8-9
    assert found.tolist() == [NEVER, 2 * SAME_PLACE, 4, 1, NEVER, 2 * SAME_PLACE]


def test_more_tracks_than_memory_holds_are_refused_by_name():
    many = 2_000_000
    with pytest.raises(ValueError, match=r"2,000,000 tracks look so much alike .* 32000\.0 GB.*identity\.cut"):
        _distances(np.zeros((1, 1)), np.arange(many), [], [], {})
