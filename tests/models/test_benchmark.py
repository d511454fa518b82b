"""Every part that `tests/benchmarks/models.py` times, and its loop, can take a step."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "models.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # which the script sets for itself, and other tests should not see
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("part", ["attention", "relation", "adaptors", "heads", "small_combined"])
def test_each_part_and_its_loop_take_a_step(benchmark, part, training):
    for way in ("loop", "eager"):
        benchmark.make(part, way, "small", 2, training, "32-true")()
