"""Prices are the user's to replace; what is wrong with a file is said by name."""

import json
from importlib.resources import files

import pytest

from reactionnet_pipeline.prices import EXAMPLE, read_prices


@pytest.fixture
def example() -> dict:
    return json.loads(files("reactionnet_pipeline").joinpath(EXAMPLE).read_text())


def test_the_example_says_when_it_was_written_and_that_it_is_one():
    prices = read_prices()
    assert prices.date.startswith("20")
    assert "example" in prices.source.lower()
    assert "not measured" in prices.rates["captions"].gpu_origin
    assert prices.per_core_hour * prices.cores == pytest.approx(0.8)


def test_another_file_wins(example, tmp_path):
    example["regions"]["mine"] = example["regions"]["example"] | {"published_gb_month": 7.0}
    example |= {"region": "mine", "machine": "here", "currency": "EUR"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(example))
    prices = read_prices(path)
    assert (prices.region, prices.currency, prices.published_gb_month) == ("mine", "EUR", 7.0)
    assert (prices.cores, prices.per_core_hour) == (1, 0.0)


def breakages():
    yield "region 'mars' is not in the file; known are 'example'", lambda c: c.update(region="mars")
    yield "machine 'abacus' is not in region 'example'; known are '16 cores'", lambda c: c.update(machine="abacus")
    yield "gpu 'big' is not in region 'example'", lambda c: c.update(gpu="big")
    yield "the file has no 'date'", lambda c: c.pop("date")
    yield "rates has no 'captions'", lambda c: c["rates"].pop("captions")
    yield "core_s of rates of captions is -1", lambda c: c["rates"]["captions"].update(core_s=-1)
    yield (
        "per_hour of machine '16 cores' of region 'example' is 'much'",
        lambda c: c["regions"]["example"]["machines"]["16 cores"].update(per_hour="much"),
    )
    yield "published_gb_month of region 'example' is None", lambda c: c["regions"]["example"].pop("published_gb_month")


@pytest.mark.parametrize("says, spoil", breakages(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_named_with_its_place(says, spoil, example, tmp_path):
    spoil(example)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(example))
    with pytest.raises(ValueError, match=r"--prices .*bad\.json") as error:
        read_prices(path)
    assert says in str(error.value)


def test_what_is_no_file_and_no_json_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: No such file.*give a file like prices\.json"):
        read_prices(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"date": ')
    with pytest.raises(ValueError, match=r"half\.json is not JSON"):
        read_prices(tmp_path / "half.json")
