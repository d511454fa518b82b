from collections import Counter

import numpy as np
import pytest

from reactionnet_pipeline.highlights import (
    Config,
    after_cut,
    choose_highlights,
    key_frame_candidates,
    key_frame_quota,
    pick_key_frames,
    score_frames,
)

FPS = 25


def face(moved, num=250, seed=0):
    """Landmarks (T, 68, 2) of a trembling face in a crop; those of `moved` are shifted by some pixels."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(60, 200, (68, 2))
    points = base + rng.normal(0, 0.3, (num, 68, 2))
    for first, last, way in moved:
        points[first:last, 48:68, 1] += way
    return points.astype(np.float32)


def scores(points, cuts_s=(), frames=None):
    t_s = np.arange(len(points)) / FPS
    return score_frames(points, t_s, np.arange(len(points)) if frames is None else frames, 160.0, cuts_s)


def test_a_face_away_from_its_rest_scores_and_a_trembling_one_does_not():
    score = scores(face([(100, 125, 8)]))
    assert score[102:123].min() > 3 * score[:90].max()
    assert score[:90].mean() < 1


def test_rest_is_how_the_face_mostly_is_not_how_it_begins():
    score = scores(face([(0, 25, 8)]))
    assert score[2:20].min() > 3 * score[40:].max()


def test_rest_is_the_subjects_own():
    smiling = face([(0, 250, 8), (100, 125, 8)])  # somebody whose mouth always looks like that
    np.testing.assert_allclose(scores(smiling), scores(face([(100, 125, 8)])), atol=0.05)


def test_motion_counts_beside_the_place_reached():
    jump = scores(face([(100, 200, 8)]))
    assert jump[100] > 1.3 * np.median(jump[110:190])


def test_motion_is_not_measured_across_a_gap():
    points = face([])
    points[125:] += 3  # as a crop may after a gap
    frames = np.arange(250)
    frames[125:] += 50
    whole, gap = scores(points), scores(points, frames=frames)
    assert whole[125] > gap[125]


def test_a_reaction_soon_after_a_cut_counts_more():
    points = face([(100, 125, 8)])  # at 4.0 s
    assert scores(points, [3.4])[100] > 1.3 * scores(points)[100]
    assert scores(points, [4.5])[100] == scores(points)[100]
    fits = after_cut(np.array([0.9, 1.0, 1.6, 3.1]), [1.0])
    assert fits.tolist() == pytest.approx([0, 0, 1, 0])
    assert after_cut(np.array([1.0]), []).tolist() == [0]


def run(num, peaks, first=0):
    score = np.zeros(num)
    for a, b, value in peaks:
        score[a:b] = value
    return np.arange(first, first + num), np.arange(first, first + num) / FPS, score


CONFIG = Config(length_s=4.0, most=3, share=0.5, step_s=0.5)


def test_the_best_windows_are_chosen_and_never_overlap():
    chosen = choose_highlights([run(1000, [(200, 260, 5), (240, 300, 4), (700, 800, 4)])], CONFIG, "v")
    assert len(chosen) == 2
    assert all(window.last - window.first == 99 for window in chosen)
    assert chosen[0].first <= 200 and chosen[0].last >= 290
    assert (chosen[1].first, chosen[1].last) == (700, 799)


def test_weak_windows_are_left_out_and_the_number_is_limited():
    peaks = [(100, 200, 5), (400, 500, 2), (600, 700, 5), (800, 900, 5), (1000, 1100, 5)]
    chosen = choose_highlights([run(1200, peaks)], CONFIG, "v")
    assert len(chosen) == 3
    assert all(window.score > 4 for window in chosen)
    assert len(choose_highlights([run(1200, peaks[:2])], CONFIG, "v")) == 1


def test_a_short_run_is_one_window_and_a_calm_video_has_one_too():
    assert [(w.first, w.last) for w in choose_highlights([run(50, [], first=7)], CONFIG, "v")] == [(7, 56)]
    assert len(choose_highlights([run(500, [])], CONFIG, "v")) >= 1


def test_equal_scores_are_ordered_by_the_video_alone():
    def firsts(video_id):
        return [w.first for w in choose_highlights([run(2000, [(0, 2000, 1)])], CONFIG, video_id)]

    assert firsts("a") == firsts("a")
    assert len({tuple(firsts(name)) for name in "abcdef"}) > 1


@pytest.mark.parametrize("wrong", [{"length_s": 0}, {"most": 0}, {"share": 2}, {"step_s": -1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Config(**wrong)


def rows(clip_id, num, peaks=()):
    return [
        {"clip_id": clip_id, "frame": k, "t_s": k / FPS, "highlight": float(k in peaks), "key": clip_id}
        for k in range(num)
    ]


def test_key_frames_are_sparse_and_the_strongest():
    found = key_frame_candidates("a", rows("a", 100, {30, 77}))
    assert [row["frame"] for row in found[:2]] in ([30, 77], [77, 30])
    assert len(found) == 8  # one in each half second of four
    assert [row["rank"] for row in found] == list(range(8))


def test_every_clip_has_its_best_before_any_has_a_second():
    candidates = key_frame_candidates("lively", rows("lively", 500, set(range(0, 500, 5))))
    candidates += key_frame_candidates("calm", rows("calm", 100)) + key_frame_candidates("short", rows("short", 5))
    picked = pick_key_frames(candidates, 9)
    assert Counter(row["clip_id"] for row in picked) == {"lively": 4, "calm": 4, "short": 1}
    assert pick_key_frames(candidates[::-1], 9) == picked
    assert len(pick_key_frames(candidates, 10_000)) == 40 + 8 + 1
    assert "rank" not in picked[0]


def test_a_splits_share_hangs_on_numbers_of_sources_alone():
    assert key_frame_quota(100, {"train": 8, "val": 1, "test": 1}) == {"train": 80, "val": 10, "test": 10}
    quota = key_frame_quota(50_000, {"train": 935, "val": 116, "test": 117})
    assert sum(quota.values()) == 50_000
    assert key_frame_quota(5, {}) == {}


def test_rendered_reactions_score_above_rest(shared):
    """AU-coded frames of RenderedFACS: the score ranks strong action above none (area under the curve)."""
    pq = pytest.importorskip("pyarrow.parquet")
    from reactionnet_pipeline.landmarks import align, crop_matrix

    folder = shared / "rendered_facs"
    names = [f"AU{n:02d}" for n in (1, 2, 4, 5, 6, 9, 10, 12, 15, 20, 26)]
    table = pq.read_table(folder / "labels.parquet", columns=["video_id", "subject_id", *names])
    points = np.load(folder / "landmarks.npz")["landmarks"].astype(np.float32)
    strength = np.max([table[name].to_numpy() for name in names], axis=0)
    subjects = np.array(table["subject_id"].to_pylist())
    above = []
    for subject in sorted(set(subjects))[:12]:
        mine = np.nonzero(subjects == subject)[0]
        crop = np.empty((len(mine), 68, 2), np.float32)
        for k, row in enumerate(mine):
            matrix = crop_matrix(align(points[row]), 256)
            crop[k] = points[row] @ matrix[:, :2].T + matrix[:, 2]
        frames = np.arange(len(mine)) + np.arange(len(mine)) // 48  # a gap between clips
        score = score_frames(crop, frames / FPS, frames, 160.0)
        strong, calm = score[strength[mine] >= 3], score[strength[mine] < 1]
        above.append((strong[:, None] > calm).mean() + (strong[:, None] == calm).mean() / 2)
    assert np.mean(above) > 0.75
