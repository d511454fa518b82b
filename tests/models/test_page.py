"""The models' page says of every preset what the presets themselves say."""

import models_page
from reactionnet_models.catalogue import all_presets


def test_the_page_is_in_step_with_the_presets_and_results():
    page = models_page.PAGE.read_text()
    assert models_page.filled(page) == page, "run python tests/models_page.py"
    for _, preset in all_presets():
        assert f"`{preset}`" in page


def test_a_result_stands_in_its_row():
    results = {
        "t": {
            "prior": {"f1": [0.2, 0.2, 0.2]},
            "rows": [
                {"model": "drr", "preset": "small_um", "settings": ["delay_s=1"], "start": "", "scores": {"f1": [0.5, 0.4, 0.6]}},
                {"model": "aar", "preset": "small_um", "settings": [], "start": "", "scores": {"f1": [0.9, 0.9, 0.9]}},
            ],
        }
    }  # fmt: skip
    assert [*models_page.ours("drr", "small_um", results)] == ["delay_s=1: f1 0.500 (0.400 to 0.600), prior 0.200"]
    assert not [*models_page.ours("drr", "small_mm", results)]
