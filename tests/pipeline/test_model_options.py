"""What `auto`, a name, a folder and `none` come to."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from reactionnet_pipeline import model_options
from reactionnet_pipeline.model_options import (
    BLIP,
    Found,
    LeftOut,
    checked,
    find_blip,
    find_deepface,
    hub_answers,
    stamps,
)
from tiny_models import tiny_deepface


@contextmanager
def hub(monkeypatch, has=()):
    """A hub on this machine that has some files."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path in has else 404)
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_the_hub_is_asked_for_the_model_by_name(monkeypatch):
    with hub(monkeypatch, has=["/me/mine/resolve/main/config.json"]):
        assert hub_answers("me/mine")
        assert not hub_answers("me/other")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not hub_answers("me/mine")


def test_a_hub_that_never_answers_is_given_up_in_time(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        began = time.monotonic()
        assert not hub_answers("me/mine", within_s=0.3)
        assert time.monotonic() - began < 3


def test_a_hub_that_drips_is_given_up_in_time(monkeypatch):
    """A byte now and then keeps every read within its limit."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(60):
                    connection.send(b"H")
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        began = time.monotonic()
        assert not hub_answers("me/mine", within_s=0.5)
        assert time.monotonic() - began < 4


def test_a_named_model_that_the_hub_breaks_off_is_an_error(monkeypatch):
    with (
        hub(monkeypatch, has=["/me/mine/resolve/main/config.json"]),
        pytest.raises(ValueError, match="me/mine cannot be fetched"),
    ):
        find_blip("me/mine")


def test_auto_does_without_a_model_that_the_hub_breaks_off(monkeypatch):
    with hub(monkeypatch, has=[f"/{BLIP}/resolve/main/config.json"]):
        found = find_blip("auto")
    assert isinstance(found, LeftOut)
    assert "cannot be fetched from the hub" in found.reason


def test_auto_leaves_out_what_it_cannot_have_and_says_how_to_have_it():
    for found in (find_blip("auto"), find_deepface("auto")):
        assert isinstance(found, LeftOut)
        assert found.reason and "-model" in found.remedy
    assert "HF_HUB_OFFLINE" in find_blip("auto").reason
    assert find_blip("none").reason == "--caption-model none"
    assert stamps([find_blip("none"), find_deepface("auto")]) == [["captions", "none"], ["demographics", "none"]]


@pytest.mark.parametrize(
    ("find", "option", "said"),
    [
        (find_blip, "me/mine", "lies in no cache"),
        (find_blip, "blip", "no such folder"),
        (find_blip, "/nowhere/blip", "no such folder"),
        (find_deepface, "/nowhere", "lacks age_model_weights, gender"),
    ],
)
def test_a_named_model_that_is_not_there_is_an_error(find, option, said):
    with pytest.raises(ValueError, match=said):
        find(option)


def test_a_folder_must_hold_all_files(blip, tmp_path):
    found = find_blip(str(blip))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(found.files)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"lacks model\.safetensors or pytorch_model\.bin"):
        find_blip(str(tmp_path))
    weights = tiny_deepface(tmp_path)
    assert find_deepface(str(tmp_path)).engine == "onnx"
    (weights / "gender_model_weights.onnx").rename(weights / "gender_model_weights.pth")
    with pytest.raises(ValueError, match="all four of one kind"):
        find_deepface(str(tmp_path))


def test_auto_takes_what_lies_in_the_hubs_cache_and_imports_nothing_heavy(blip, tmp_path):
    snapshot = tmp_path / "hub" / f"models--{BLIP.replace('/', '--')}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    for path in blip.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    script = (
        "import sys; from reactionnet_pipeline.model_options import find_blip; print(find_blip('auto').path)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(snapshot)


def test_a_touched_file_is_another_stamp_and_another_content_another_digest(tmp_path):
    weights = tiny_deepface(tmp_path)
    found = find_deepface(str(tmp_path))
    before, digest = found.stamp(), model_options.with_digest(found).digest
    os.utime(weights / found.files[0], (1, 1))
    assert found.stamp() != before
    assert model_options.with_digest(found).digest == digest
    tiny_deepface(tmp_path, seed=1)
    assert model_options.with_digest(found).digest != digest
    assert json.loads(json.dumps(stamps([found]))) == stamps([found])


def test_weights_that_cannot_be_loaded_are_an_error_where_named_and_left_out_where_found(blip, tmp_path):
    weights = tiny_deepface(tmp_path / "home")
    usable, left_out = checked([find_deepface(str(tmp_path / "home"))], tmp_path / "work")
    assert list(usable) == ["demographics"] and not left_out
    with pytest.raises(ValueError, match="cannot be used on nowhere"):
        checked([find_blip(str(blip))], tmp_path / "work", {"captions": "nowhere"})
    path = weights / "race_model_single_batch.onnx"
    path.write_bytes(path.read_bytes()[:-40])
    found = find_deepface(str(tmp_path / "home"))
    with pytest.raises(ValueError, match=r"demographics: the weights in .* cannot be used"):
        checked([found], tmp_path / "work")
    usable, left_out = checked([Found(**{**vars(found), "option": "auto"})], tmp_path / "work")
    assert not usable
    assert left_out[0].stage == "demographics"
    assert "deepface-onnx cannot be used on cpu" in left_out[0].reason
    assert str(tmp_path) not in left_out[0].reason
