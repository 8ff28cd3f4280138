"""An OpenAI-compatible server that behaves as real ones do on bad days."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Behaviour = Literal["answer", "429", "500", "400", "401", "cut", "junk", "odd", "hang", "drip"]
Script = Callable[[str, int], Behaviour]
"""What to do with a prompt that is asked for the nth time, from 0."""


@dataclass(kw_only=True)
class JudgeServer:
    """A running server and what it has seen."""

    url: str
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def judge_server(
    script: Script, answer: Callable[[str], str], *, pause: float = 0.0
) -> Generator[JudgeServer]:
    """Serve on a free port until the block ends."""
    server = _Server(script, answer, pause)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.seen
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Script, answer: Callable[[str], str], pause: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.answer = answer
        self.pause = pause
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.n_now = 0
        self.seen = JudgeServer(url=f"http://127.0.0.1:{self.server_address[1]}/v1")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _served(self) -> _Server:
        assert isinstance(self.server, _Server)
        return self.server

    def do_POST(self) -> None:
        served, seen = self._served, self._served.seen
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        with served.lock:
            nth = seen.asked[prompt]
            seen.asked[prompt] += 1
            seen.requests.append((self.path, body, self.headers.get("Authorization")))
            served.n_now += 1
            seen.most_at_once = max(seen.most_at_once, served.n_now)
        served.over.wait(served.pause)
        self._behave(served.script(prompt, nth), prompt, body)
        with served.lock:
            served.n_now -= 1

    def _behave(self, behaviour: Behaviour, prompt: str, body: dict[str, Any]) -> None:
        if behaviour == "answer":
            self._answer(prompt, is_chat="messages" in body)
        elif behaviour == "hang":
            self._served.over.wait(60)
            self.close_connection = True
        elif behaviour == "drip":
            self._drip()
        elif behaviour == "cut":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choi')
            self.close_connection = True
        elif behaviour == "junk":
            self._send(200, "<html>the cat sat on the balancer</html>")
        elif behaviour == "odd":
            self._send(200, json.dumps({"choices": []}))
        else:
            self._send(int(behaviour), "try later", {"Retry-After": "0.02"})

    def _answer(self, prompt: str, *, is_chat: bool) -> None:
        with self._served.lock:
            self._served.seen.answered[prompt] += 1
        said = self._served.answer(prompt)
        choice = {"message": {"content": said}} if is_chat else {"text": said}
        self._send(200, json.dumps({"choices": [choice]}))

    def _drip(self) -> None:
        """Send a blank from time to time, for ever."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        while not self._served.over.wait(0.2) and not self.wfile.closed:
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                break
        self.close_connection = True

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the client is gone

    def log_message(self, format: str, *args: Any) -> None:
        del format, args
