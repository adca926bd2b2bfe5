"""Ray as a reader meets it: what it asks of the world, what it hands out, and a Ray elsewhere."""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from ports import free_port, nobodys_port
from scale_jobs import (
    clean_environment,
    describe_in_a_new_process,
    describing,
    draw_photos,
    lines,
    noting,
    ray,
    rows,
    run_python,
    wait_until,
)

from moda_utils import scale

pytestmark = pytest.mark.slow
NOWHERE = f"127.0.0.1:{nobodys_port()}"
DEFAULT = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"  # where Ray looks for one


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos")


def removed(folder):
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


# What it asks of the world


class Proxy(BaseHTTPRequestHandler):
    """Writes down what is asked of it, and gives nothing."""

    asked: list[str] = []

    def log_message(self, *args):
        pass

    def _any(self):
        self.asked.append(self.path)
        self.send_error(404)

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = _any


def test_nothing_outside_is_asked(photos, tmp_path):
    """Ray would ask three clouds whether it runs there, with its usage statistics on or off."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    proxies = {f"{kind}_proxy": address for kind in ("http", "https", "all")}
    said, beside = describe_in_a_new_process(
        photos, tmp_path / "out", tmp_path / "log", **proxies, no_proxy="127.0.0.1"
    )
    server.shutdown()
    assert said == "{'described': 20}\n", beside
    assert Proxy.asked == []


def test_a_ray_that_the_reader_starts_later_is_as_ray_has_it(photos, tmp_path, monkeypatch):
    """In the same kernel: with its dashboard, and at no address that the reader hasn't named."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    own = ray._private.node.Node.start_api_server
    assert own.__name__ == "start_api_server"
    job = noting(photos, tmp_path / "out", tmp_path / "log")
    assert scale.describe_catalogue(job) == {"described": 20}
    assert not ray.is_initialized() and ray._private.node.Node.start_api_server is own
    assert "RAY_ADDRESS" not in os.environ
    monkeypatch.setenv("RAY_ADDRESS", NOWHERE)
    with pytest.raises(RuntimeError, match="can't be joined"):
        scale.describe_catalogue(job._replace(out=str(tmp_path / "other")))
    assert ray._private.node.Node.start_api_server is own


# What it shows and hands out


def test_the_bar_counts_what_was_there_and_reaches_the_end(photos, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    said, bar = describe_in_a_new_process(photos, out, log, seconds=0.2)
    assert said == "{'described': 20}\n", bar
    states = re.findall(r"(\d+)/20 \[[\d:]+<([\d:?]+)", bar)
    assert [int(count) for count, _ in states] == sorted(int(count) for count, _ in states)
    assert states[0][0] == "0" and states[-1] == ("20", "00:00")
    assert any(re.search("[1-9]", left) for _, left in states[1:-1]), bar  # the time left
    next((out / "described").glob("*5.parquet")).unlink()
    said, bar = describe_in_a_new_process(photos, out, log)
    assert said == "{'described': 5, 'before': 15}\n", bar
    counts = [int(count) for count in re.findall(r"(\d+)/20 \[", bar)]
    assert counts[0] == 15 and counts[-1] == 20


def test_a_slow_worker_is_handed_no_more_than_two_shards(photos, tmp_path):
    """It waits until the other has done the rest of the twenty; with more at hand, for ever."""
    log = tmp_path / "log"
    job = noting(photos, tmp_path / "out", log, wait_for=18)
    assert scale.describe_catalogue(job, workers=2, shard_size=1) == {"described": 20}
    done = Counter(process for process, _ in lines(log))
    assert len(done) == 2 and min(done.values()) <= 2


def test_workers_share_what_gpus_there_are(photos, tmp_path):
    """Three workers, two GPUs that Ray is told of: none begins before all have a place.

    It is a Ray of the reader's, used as it is and left running.
    """
    alone = "ray._private.node.Node.start_api_server = lambda *given, **options: None"
    here = "ray.init('local', num_cpus=3, num_gpus=2, log_to_driver=False, logging_level='error')"
    where = f"{str(photos)!r}, {str(tmp_path / 'out')!r}, Path({str(tmp_path / 'log')!r})"
    code = f"print(dict(scale.describe_catalogue(noting({where}, crew=3), 3, shard_size=1)))"
    said, beside = run_python(f"{alone}\n{here}\n{code}\nprint(ray.is_initialized())")
    assert said == "{'described': 20}\nTrue\n", beside


# A Ray elsewhere


@pytest.fixture(scope="module")
def other():
    """A Ray that somebody else started, with a token: its environment, address and folder."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short, for sockets lie below it
    port, there = free_port(), DEFAULT.exists()
    nobody = f"http://{NOWHERE}"  # it would tell its makers that it starts
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(24)}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
    command += ["--include-dashboard=false", "--num-cpus=2", "--disable-usage-stats"]
    said = folder / "said.txt"
    with open(said, "w") as file:
        process = subprocess.Popen(
            command,
            env=clean_environment() | environment | {"http_proxy": nobody, "https_proxy": nobody},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Ray runtime started" in said.read_text() or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        yield environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, folder
    finally:
        head = psutil.Process(process.pid)
        family = [head, *head.children(recursive=True)]
        for member in family:  # by number: `ray stop` would stop every Ray of this machine
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=60)
        wait_until(lambda: removed(folder))  # what was just being started may still write there
        assert DEFAULT.exists() == there  # or every other Ray here would wait for this one


def test_a_ray_elsewhere_does_the_same(other, photos, tmp_path):
    """RAY_ADDRESS and the token are all that is said; nothing is started here."""
    environment, folder = other
    out, log = tmp_path / "out", tmp_path / "log"
    said, beside = describe_in_a_new_process(photos, out, log, **environment)
    assert said == "{'described': 20}\n", beside
    assert len(rows(out)) == 20
    there = {path.stem.rpartition("-")[2] for path in folder.glob("session_2*/logs/worker-*.out")}
    assert {process for process, _ in lines(log)} <= there
    said, beside = describe_in_a_new_process(photos, out, log, **environment)
    assert said == "{'before': 20}\n", beside


def test_folders_are_those_of_who_calls(other, photos, tmp_path):
    """Who started Ray did so elsewhere; relative or from home, a folder is the same run."""
    environment, log = other[0] | {"HOME": str(tmp_path)}, tmp_path / "log"
    here = f"os.chdir({str(tmp_path)!r})"
    said, beside = run_python(f"{here}\n{describing('photos', 'out', log)}", **environment)
    assert said == "{'described': 20}\n", beside
    assert len(rows(tmp_path / "out")) == 20
    said, beside = describe_in_a_new_process("~/photos", "~/out", log, **environment)
    assert said == "{'before': 20}\n", beside


def test_each_call_goes_by_the_environment_of_its_time(other, photos, tmp_path):
    """A first one here, and in the same process another on a Ray elsewhere.

    The token is there from the start: Ray reads it once.
    """
    environment, folder = other
    token = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
    calls = [describing(photos, tmp_path / name, tmp_path / f"{name} log") for name in ("a", "b")]
    then = f"os.environ['RAY_ADDRESS'] = {environment['RAY_ADDRESS']!r}"
    said, beside = run_python("\n".join([calls[0], then, calls[1]]), **token)
    assert said == "{'described': 20}\n" * 2, beside
    there = {path.stem.rpartition("-")[2] for path in folder.glob("session_2*/logs/worker-*.out")}
    assert not {process for process, _ in lines(tmp_path / "a log")} & there
    assert {process for process, _ in lines(tmp_path / "b log")} <= there


def test_a_machine_outside_is_told_so(other, photos, tmp_path):
    """It finds no node of Ray among its processes."""
    describe = describing(photos, tmp_path / "out", tmp_path / "log")
    environment = other[0] | {"RAY_gcs_server_request_timeout_seconds": "2"}
    _, error = run_python(f"ray._private.services.find_node_ids = set\n{describe}", **environment)
    [last] = error.splitlines()[-1:]
    assert last.startswith(f"RuntimeError: The Ray at {environment['RAY_ADDRESS']} can't be joined")
    assert "on this machine too" in last


@pytest.mark.parametrize("token", [secrets.token_hex(24), ""], ids=["wrong", "none"])
def test_a_token_that_does_not_fit_is_explained(other, photos, tmp_path, token):
    environment = other[0] | {"RAY_AUTH_TOKEN": token, "HOME": str(tmp_path)}
    _, error = describe_in_a_new_process(photos, tmp_path / "out", tmp_path / "log", **environment)
    [last] = error.splitlines()[-1:]
    assert last.startswith(f"RuntimeError: The Ray at {environment['RAY_ADDRESS']} can't be joined")
    assert "RAY_AUTH_MODE and RAY_AUTH_TOKEN" in last


def test_no_ray_at_the_address_is_explained_at_once(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", NOWHERE)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"The Ray at 127.* can't be joined .*see that it runs"):
        scale.describe_catalogue(noting(photos, tmp_path / "out", tmp_path / "log"))
    assert time.monotonic() - begin < 60  # Ray itself would try for minutes
