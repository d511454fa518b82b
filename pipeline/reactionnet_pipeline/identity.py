"""Who is the same person over the whole manifest: face vectors and what is known for certain, clustered into subjects.

Tracks are joined by average linkage below a distance, within limits that no vector can move: two faces in one frame are
two people; one track, with its stitched segments, is one person; ids in the manifest and a curator's file win. Average
linkage of a part of the data that is a union of clusters gives the same clusters, so that one split alone is named as in
the whole.

Letters: N tracks (of one person without a break), U units that are one person for certain, D numbers of a vector.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from reactionnet_datasets.stores import Place

# Tracks of one real person are up to 0.22 apart for dlib's network, of two people 0.55 and more
# (tests/benchmarks/identity.py, 9 people in 11 videos, though of few recordings); its author's own cut for single
# pictures is 0.6. FaceNet's vectors have length 1, and its authors' cut on squared distances is 1.24.
CUTS = {"dlib": 0.45, "facenet": 1.0}
SAME_PLACE = 0.8  # factor on the distance of two tracks that place and time already take for one person
NEVER = 1e6  # distance of what must not be joined: no mean over fewer than a million tracks falls below the cut
BLOCK = 2048


@dataclass(frozen=True, kw_only=True)
class Config:
    """`cut` null takes the model's own (`CUTS`); `curated` is a file of merges and splits, see `read_curated`."""

    cut: float | None = None
    curated: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One track. `person` is the number that place and time give it in its video; `subject` what the manifest calls it.

    `vector` is None where no crop was good enough; `frames` are the first and the last.
    """

    video_id: str
    chain: str
    person: int
    frames: tuple[int, int]
    vector: np.ndarray | None
    crops: int = 1
    subject: str | None = None

    @property
    def name(self) -> str:
        """How a curator names it: the number of the person in reading order."""
        return f"{self.video_id}#{self.person + 1}"


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What a person has decided: groups that are one subject, groups of which no two are."""

    merges: tuple[tuple[str, ...], ...] = ()
    splits: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Known:
    """The people of one video after all: tracks and subject of each, in the order of the first track of each."""

    chains: tuple[tuple[str, ...], ...] = ()
    subjects: tuple[str, ...] = field(default_factory=tuple)


def read_curated(path: Place) -> Curated:
    """JSON Lines, each `{"merge": [names]}` or `{"split": [names]}`; a name is `VIDEO_ID#N` (the N-th person of a video in
    reading order) or a subject of the manifest. ValueError names the line.
    """
    found: dict[str, list[tuple[str, ...]]] = {"merge": [], "split": []}
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"identity.curated {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            ((what, names),) = json.loads(line).items()
        except (ValueError, AttributeError):
            what, names = "", []
        if what not in found or len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f'{path} line {number}: expected {{"merge": [names]}} or {{"split": [names]}}, two at least'
            )
        found[what].append(tuple(names))
    return Curated(merges=tuple(found["merge"]), splits=tuple(found["split"]))


def identify(faces: Sequence[Face], curated: Curated, cut: float) -> dict[str, Known]:
    """The people of every video. ValueError where a curator's lines contradict one another or name nobody."""
    faces = sorted(faces, key=lambda face: (face.video_id, face.person, face.frames, face.chain))
    unit_N = _units(faces, curated)
    forbidden = _forbidden(faces, unit_N, curated)
    cluster_U = _clusters(*_means(faces, unit_N), faces, unit_N, forbidden, cut)
    cluster_N = _with_blind(faces, cluster_U[unit_N])
    return _named(faces, cluster_N)


def _units(faces: Sequence[Face], curated: Curated) -> np.ndarray:
    """(N,) number of the unit: what is one person for certain."""
    parent = list(range(len(faces)))

    def find(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    def join(places: Iterable[int]) -> None:
        first, *others = map(find, places)
        for other in others:
            parent[find(other)] = find(first)

    by_subject = defaultdict(list)
    for place, face in enumerate(faces):
        if face.subject is not None:
            by_subject[face.subject].append(place)
    for places in by_subject.values():
        join(places)
    for group in curated.merges:
        join([place for name in group for place in _meant(faces, name)])
    return np.unique([find(place) for place in range(len(faces))], return_inverse=True)[1].reshape(-1)


def _meant(faces: Sequence[Face], name: str) -> list[int]:
    found = [place for place, face in enumerate(faces) if name in (face.name, face.subject)]
    if not found:
        raise ValueError(f"identity.curated names {name!r}: no such person was seen, and no subject is called so")
    return found


def _forbidden(faces: Sequence[Face], unit_N: np.ndarray, curated: Curated) -> set[tuple[int, int]]:
    """Pairs of units that are two people for certain. ValueError where a unit would have to be two."""
    pairs: set[tuple[int, int]] = set()

    def apart(one: int, two: int, why: str) -> None:
        a, b = sorted((int(unit_N[one]), int(unit_N[two])))
        if a == b:
            raise ValueError(f"{faces[one].name} and {faces[two].name} are made one subject, but {why}")
        pairs.add((a, b))

    by_video: dict[str, list[int]] = defaultdict(list)
    for place, face in enumerate(faces):
        by_video[face.video_id].append(place)
    for places in by_video.values():
        for i, one in enumerate(places):
            for two in places[i + 1 :]:
                (a, b), (c, d) = faces[one].frames, faces[two].frames
                if a <= d and c <= b:
                    apart(one, two, "both are seen in one frame")
    for group in curated.splits:
        meant = [_meant(faces, name) for name in group]
        for i, ones in enumerate(meant):
            for two in (place for others in meant[i + 1 :] for place in others):
                for one in ones:
                    apart(one, two, "a curator's line parts them")
    return pairs


def _means(faces: Sequence[Face], unit_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(U, D) mean vector of each unit, weighted by crops, and (U,) whether it has one."""
    size = next((len(face.vector) for face in faces if face.vector is not None), 1)
    total_UD, weight_U = np.zeros((unit_N.max(initial=-1) + 1, size)), np.zeros(unit_N.max(initial=-1) + 1)
    for face, unit in zip(faces, unit_N, strict=True):
        if face.vector is not None:
            total_UD[unit] += face.crops * face.vector
            weight_U[unit] += face.crops
    return total_UD / np.maximum(weight_U, 1)[:, None], weight_U > 0


def _clusters(
    vector_UD: np.ndarray,
    has_U: np.ndarray,
    faces: Sequence[Face],
    unit_N: np.ndarray,
    forbidden: set[tuple[int, int]],
    cut: float,
) -> np.ndarray:
    """(U,) number of the cluster. Only what is connected by distances below the cut has to be looked at together."""
    people_U: list[set[str]] = [set() for _ in vector_UD]  # who each unit is by place and time, in its videos
    subject_U: list[str | None] = [None] * len(vector_UD)
    for face, unit in zip(faces, unit_N.tolist(), strict=True):
        people_U[unit].add(face.name)
        subject_U[unit] = min(filter(None, (face.subject, subject_U[unit])), default=None)
    others_U: dict[int, list[int]] = defaultdict(list)
    for a, b in forbidden:
        others_U[a].append(b)
    blocks = range(0, len(vector_UD), BLOCK)
    near = [_near(vector_UD, has_U, low, right, cut / SAME_PLACE) for low in blocks for right in blocks if right >= low]
    rows, columns = (np.concatenate(part) for part in zip(*near, strict=True)) if near else (np.empty(0, int),) * 2
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(vector_UD),) * 2)
    component_U = connected_components(graph, directed=False)[1]
    cluster_U, count = np.zeros(len(vector_UD), int), 0
    order = np.argsort(component_U, kind="stable")
    for members in np.split(order, np.nonzero(np.diff(component_U[order]))[0] + 1):
        if len(members) > 1:
            distance = _distances(vector_UD[members], members, people_U, subject_U, others_U)
            cluster_U[members] = count + fcluster(linkage(distance, "average"), cut, "distance")
        else:
            cluster_U[members] = count + 1
        count = int(cluster_U[members].max(initial=count))
    return cluster_U


def _near(vector_UD: np.ndarray, has_U: np.ndarray, low: int, right: int, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (a < b) closer than `most`, a from one block and b from another: memory holds a block of distances."""
    one, two = vector_UD[low : low + BLOCK], vector_UD[right : right + BLOCK]
    squared = (one**2).sum(1)[:, None] + (two**2).sum(1)[None] - 2 * one @ two.T
    a, b = np.nonzero(squared < most**2)
    a, b = a + low, b + right
    real = (a < b) & has_U[a] & has_U[b]
    return a[real], b[real]


def _distances(
    vector_MD: np.ndarray,
    members: np.ndarray,
    people_U: Sequence[set[str]],
    subject_U: Sequence[str | None],
    others_U: Mapping[int, Sequence[int]],
) -> np.ndarray:
    """Distances of all pairs of members in scipy's condensed order, with what is known beside the vectors put in.

    ValueError where they would not fit into memory: M members need 8 M squared bytes.
    """
    needed, free = 8 * len(members) ** 2, psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"{len(members):,} tracks look so much alike that all their distances are needed: {needed / 1e9:.1f} GB, and"
            f" {free / 1e9:.1f} GB are free. Name subject_ids in the manifest, or set identity.cut lower"
        )
    distance = pdist(vector_MD)
    place_of = {unit: place for place, unit in enumerate(members.tolist())}
    by_person: dict[str, list[int]] = defaultdict(list)
    named = np.array([subject_U[unit] or "" for unit in members])
    for unit, place in place_of.items():
        for person in people_U[unit]:
            by_person[person].append(place)
    end = 0
    for place, unit in enumerate(members[:-1].tolist()):
        row = distance[end : end + len(members) - place - 1]  # to the members after this one
        end += len(row)
        same = {other for person in people_U[unit] for other in by_person[person] if other > place}
        row[np.fromiter(same, int, len(same)) - place - 1] *= SAME_PLACE
        for other in others_U.get(unit, ()):
            if (there := place_of.get(other, -1)) > place:
                row[there - place - 1] = NEVER
        if named[place]:  # two names of the manifest are two people, whatever they look like
            row[(named[place + 1 :] != "") & (named[place + 1 :] != named[place])] = NEVER
    return np.round(distance, 6, out=distance)


def _with_blind(faces: Sequence[Face], cluster_N: np.ndarray) -> np.ndarray:
    """Tracks without a vector go with the longest-seen track of the same person by place, where that is possible."""
    cluster_N = cluster_N.copy()
    seen: dict[str, list[int]] = defaultdict(list)
    for place, face in enumerate(faces):
        if face.vector is not None:
            seen[face.name].append(place)
    for place, face in enumerate(faces):
        if face.vector is not None or face.subject is not None:
            continue
        (first, last) = face.frames
        apart = [n for n in seen[face.name] if faces[n].frames[1] < first or faces[n].frames[0] > last]
        if apart:
            longest = max(apart, key=lambda n: (faces[n].frames[1] - faces[n].frames[0], -n))
            cluster_N[place] = cluster_N[longest]
    return cluster_N


def _named(faces: Sequence[Face], cluster_N: np.ndarray) -> dict[str, Known]:
    """People of each video, and one name for each cluster: the manifest's, or that of its first person."""
    videos: dict[str, dict[int, list[Face]]] = defaultdict(dict)
    names: dict[int, str] = {}
    for face, cluster in zip(faces, cluster_N.tolist(), strict=True):
        videos[face.video_id].setdefault(cluster, []).append(face)
        if face.subject is not None:
            names[cluster] = min(face.subject, names.get(cluster, face.subject))
    for video_id in sorted(videos):
        for number, cluster in enumerate(videos[video_id], 1):
            names.setdefault(cluster, f"{video_id}#{number}")
    return {
        video_id: Known(
            chains=tuple(tuple(face.chain for face in people) for people in clusters.values()),
            subjects=tuple(names[cluster] for cluster in clusters),
        )
        for video_id, clusters in videos.items()
    }


def pair_scores(true: Mapping[str, str], found: Mapping[str, str]) -> tuple[float, float]:
    """Precision and recall over pairs: of those put together, and of those that belong together, the share that is both."""
    keys = sorted(true)
    together = right = belong = 0
    for i, one in enumerate(keys):
        for two in keys[i + 1 :]:
            same, put = true[one] == true[two], found[one] == found[two]
            together, belong, right = together + put, belong + same, right + (same and put)
    return (right / together if together else 1.0), (right / belong if belong else 1.0)
