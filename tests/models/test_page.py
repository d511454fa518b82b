"""The models' page says of every preset what the presets themselves say."""

import models_page
from reactionnet_models.catalogue import all_presets


def test_the_page_is_in_step_with_the_presets_and_results():
    page = models_page.PAGE.read_text()
    assert models_page.filled(page) == page, "run python tests/models_page.py"
    for _, preset in all_presets():
        assert f"`{preset}`" in page


def test_every_variant_of_the_papers_has_a_preset():
    """What ERI, ABAW6 and DRR report, whose rows `--list` counts from."""
    there = {(module.__name__.rpartition(".")[2], preset) for module, preset in all_presets()}
    streams = ("egemaps", "deepspectrum", "fau", "vggface2")
    eri = (
        "audio",
        "video",
        "fused",
        "fused_pm10",
        "fused_pm08",
        "fused_5fold",
        *(f"baseline_{one}" for one in streams),
    )
    folds = [f"{task}_5fold" for task in ("au", "expr", "va", "ce", "emi")]
    abaw6 = ("pretrain", "pretrain_large", "au", "expr", "va", "ce", "emi", "emi_lora", *folds)
    baselines = ("resnet18", "resnet50", "vit", "gcn", "fusion", "uda", "da_gcn", "sev_net")
    rows = (*baselines, "without_cdc", "without_ho", "without_he", "static", "dynamic")
    tasks = [f"{row}_{task}" for row in rows for task in ("aud", "fer", "sc")]
    units, faces = (
        ("emotionet", "ck_plus", "disfa", "bp4d", "bp4d_plus"),
        ("ferplus", "rafdb", "affectnet", "mmi", "bu3dfe"),
    )
    others = [f"{variant}_{data}" for variant in ("um", "pr", "gcn") for data in (*units, *faces)]
    drr = (
        *tasks,
        "dyadic",
        *others,
        "mm_bp4d",
        "mm_bp4d_plus",
        "mm_bu3dfe",
        "scenes_resnet18",
        "scenes_vit",
        "scenes_static",
    )
    asked = {("eri", one) for one in eri} | {("abaw6", one) for one in abaw6} | {("drr", one) for one in drr}
    assert not asked - there


def test_a_result_stands_in_its_row_the_first_score_first():
    scores = {"ccc": [], "f1": [0.5, 0.4, 0.6], "accuracy": [0.7, 0.7, 0.7]}
    results = {
        "t": {
            "scores": ["f1", "accuracy", "ccc"],
            "prior": {"f1": [0.2, 0.2, 0.2], "accuracy": [0.3, 0.3, 0.3], "ccc": []},
            "rows": [
                {"model": "drr", "preset": "small_um", "settings": ["delay_s=1"], "start": "", "scores": scores},
                {"model": "aar", "preset": "small_um", "settings": [], "start": "", "scores": scores},
            ],
        }
    }
    expected = "delay_s=1: f1 0.500 (0.400 to 0.600), prior 0.200, accuracy 0.700, prior 0.300"
    assert [*models_page.ours("drr", "small_um", results)] == [expected]
    assert not [*models_page.ours("drr", "small_mm", results)]


def test_a_row_beats_what_its_worst_seed_is_above():
    rows = [
        {"title": "plain", "baseline": True, "scores": {"f1": [0.4, 0.3, 0.5]}},
        {"title": "better", "baseline": False, "scores": {"f1": [0.55, 0.51, 0.6]}},
        {"title": "mixed", "baseline": False, "scores": {"f1": [0.6, 0.5, 0.7]}},
        {"title": "nothing", "baseline": False, "scores": {"f1": [0.2, 0.2, 0.2]}},
    ]
    found = models_page.table({"title": "t", "scores": ["f1"], "prior": {"f1": [0.2, 0.2, 0.2]}, "rows": rows})
    beaten = {line.split(" | ")[0].strip("| "): line.split("|")[-2].strip() for line in found.splitlines()[2:]}
    assert beaten == {"prior": "", "plain": "", "better": "prior, plain", "mixed": "prior", "nothing": "none"}
