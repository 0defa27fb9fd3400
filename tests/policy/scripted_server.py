"""A scripted OpenAI-compatible server for tests: it knows the tasks of `small`, and fails as it is told."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[int], tuple[int, dict[str, str], str] | str | None]
"""Number of the request -> status, headers and body; or "drop" or "torn" for the connection; or None to answer."""

MEETING = 60.0
"""Seconds after which the requests that have come wait no longer for the others."""


class Server(ThreadingHTTPServer):
    """Keeps what it was sent."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, fault: Fault | None = None, answer: Callable[[dict], dict] | None = None, meet: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault: Fault = fault or (lambda number: None)
        self.answer = answer or oracle
        self.meet = meet
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.busy = self.most_busy = self.answered = 0
        self._met = threading.Condition(self.lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def arrived(self, body: dict[str, Any]) -> int:
        """Number of the request; returns once `meet` requests have been open at the same time."""
        with self._met:
            self.requests.append(body)
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
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = self.server.arrived({"path": self.path, "headers": dict(self.headers), **body})
        fault = self.server.fault(number)
        with self.server.lock:
            self.server.busy -= 1  # before the client can know, and ask again
            self.server.answered += fault is None
        if fault == "drop":
            self.connection.close()
            self.close_connection = True
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

    def log_message(self, *_: object) -> None:
        """Silence."""


def oracle(body: dict) -> dict:
    """Makes the directory that the last message asks for, then says so."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return said("Done.")
    name = re.findall(r"d\d+", last["content"])[-1]
    return said(None, [{"name": "mkdir", "arguments": json.dumps({"dir_name": name})}])


def said(text: str | None, calls: list[dict] | None = None, finish: str = "stop") -> dict:
    """An answer of the chat API."""
    message = {"role": "assistant", "content": text, "tool_calls": [{"function": call} for call in calls or []] or None}
    return {"choices": [{"message": message, "finish_reason": finish}]}


@contextmanager
def serving(
    fault: Fault | None = None, answer: Callable[[dict], dict] | None = None, meet: int = 0
) -> Iterator[Server]:
    """A server on a free port of the loopback interface.

    It holds the first answers back until `meet` requests are open, so that no test depends on how fast a machine is.
    """
    server = Server(fault, answer, meet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
