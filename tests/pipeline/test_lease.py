import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from reactionnet_pipeline.lease import NAME, STALE_S, Lease, LeaseHeldError


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def write_lease(root, pid, host=None, started=None, age_s=0.0):
    started = psutil.Process(pid).create_time() if started is None else started
    (root / NAME).write_text(json.dumps({"host": host or socket.gethostname(), "pid": pid, "started": started}))
    os.utime(root / NAME, (time.time() - age_s,) * 2)


def refused(root):
    with pytest.raises(LeaseHeldError) as caught, Lease(root):
        pass
    return str(caught.value)


def test_a_lease_is_there_while_it_is_held_and_gone_after(tmp_path):
    with Lease(tmp_path / "new"):
        assert json.loads((tmp_path / "new" / NAME).read_text())["pid"] == os.getpid()
        assert f"process {os.getpid()} on" in refused(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_error_inside_gives_the_lease_back(tmp_path):
    with pytest.raises(ZeroDivisionError), Lease(tmp_path):
        _ = 1 / 0
    assert not (tmp_path / NAME).exists()


def test_a_live_process_keeps_its_lease_however_old(tmp_path, sleeper):
    write_lease(tmp_path, sleeper.pid, age_s=10 * STALE_S)
    assert f"process {sleeper.pid} on {socket.gethostname()}, last seen 1200 s ago" in refused(tmp_path)


def test_the_lease_of_a_killed_process_is_taken_over_even_uncollected(tmp_path, sleeper):
    write_lease(tmp_path, sleeper.pid)
    sleeper.kill()
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with Lease(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


def test_a_process_that_got_the_number_of_a_dead_one_holds_nothing(tmp_path, sleeper):
    write_lease(tmp_path, sleeper.pid, started=psutil.Process(sleeper.pid).create_time() - 1000)
    with Lease(tmp_path):
        pass


def test_another_host_holds_its_lease_as_long_as_it_is_heard_of(tmp_path):
    write_lease(tmp_path, 1, host="elsewhere", started=0.0, age_s=STALE_S / 2)
    assert "process 1 on elsewhere" in refused(tmp_path)
    write_lease(tmp_path, 1, host="elsewhere", started=0.0, age_s=STALE_S + 1)
    with Lease(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_an_unreadable_lease_holds_for_a_moment_only(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    assert "unreadable" in refused(tmp_path)
    os.utime(tmp_path / NAME, (time.time() - 60,) * 2)
    with Lease(tmp_path):
        pass
