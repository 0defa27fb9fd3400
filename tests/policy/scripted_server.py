"""A scripted OpenAI-compatible server for tests: it knows the tasks of `small`, and fails as it is told."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Refusal = tuple[int, dict[str, str], str]
"""Status, headers and body."""
Fault = Callable[[int], Refusal | str | None]
"""Number of the request -> a refusal; or "drop", "torn", "hang" or "huge", see `_Handler`; or None to answer."""
Refuse = Callable[[dict], Refusal | str | None]
"""The same, for what a request holds."""

MEETING = 60.0
"""Seconds after which the requests that have come wait no longer for the others."""


class Server(ThreadingHTTPServer):
    """Keeps what it was sent."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        fault: Fault | None = None,
        answer: Callable[[dict], dict] | None = None,
        meet: int = 0,
        refuse: Refuse | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault: Fault = fault or (lambda number: None)
        self.refuse: Refuse = refuse or (lambda body: None)
        self.answer = answer or oracle
        self.meet = meet
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.closing = threading.Event()
        self.sent = 0
        self.busy = self.most_busy = self.answered = 0
        self._met = threading.Condition(self.lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def arrived(self, body: dict[str, Any]) -> int:
        """Number of the request; returns once `meet` requests have been open at the same time."""
        with self._met:
            self.requests.append(body)
            self.times.append(time.monotonic())
            number = len(self.requests)
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            self._met.notify_all()
            if not self._met.wait_for(lambda: self.most_busy >= self.meet, timeout=MEETING):
                self.meet = 0  # so that the test fails now, not after as long a wait for every request
        return number

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go away."""


class _Handler(BaseHTTPRequestHandler):
    """Answers, or `drop`s the connection, sends a `torn` answer, `hang`s, or sends a `huge` one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = self.server.arrived({"path": self.path, "headers": dict(self.headers), **body})
        fault = self.server.fault(number) or self.server.refuse(body)
        with self.server.lock:
            self.server.busy -= 1  # before the client can know, and ask again
            self.server.answered += fault is None
        if fault == "drop" or self.server.closing.is_set():
            self.connection.close()
            self.close_connection = True
        elif fault == "hang":
            self.server.closing.wait(MEETING)
            self.close_connection = True
        elif fault == "huge":
            self._send_huge()
        elif isinstance(fault, tuple):
            self._send(*fault)
        else:
            self._send(200, {}, json.dumps(self.server.answer(body)), torn=fault == "torn")

    def _send(self, status: int, headers: dict[str, str], text: str, torn: bool = False) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if torn else content)
        self.close_connection = torn

    def _send_huge(self, megabytes: int = 300) -> None:
        """An answer of many megabytes, until the client hangs up."""
        self.send_response(200)
        self.send_header("Content-Length", str(megabytes << 20))
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(megabytes):
                self.wfile.write(b"x" * (1 << 20))
                with self.server.lock:
                    self.server.sent += 1
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Silence."""


def oracle(body: dict) -> dict:
    """Makes the directory that the last message asks for, then says so."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return said("Done.")
    names = re.findall(r"d\d+", last["content"])
    if not names:
        return said("Hello.")
    return said(None, [{"name": "mkdir", "arguments": json.dumps({"dir_name": names[-1]})}])


def said(text: str | None, calls: list[dict] | None = None, finish: str = "stop") -> dict:
    """An answer of the chat API."""
    message = {"role": "assistant", "content": text, "tool_calls": [{"function": call} for call in calls or []] or None}
    return {"choices": [{"message": message, "finish_reason": finish}]}


@contextmanager
def serving(
    fault: Fault | None = None,
    answer: Callable[[dict], dict] | None = None,
    meet: int = 0,
    refuse: Refuse | None = None,
) -> Iterator[Server]:
    """A server on a free port of the loopback interface.

    It holds the first answers back until `meet` requests are open, so that no test depends on how fast a machine is.
    """
    server = Server(fault, answer, meet, refuse)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
