"""A server that reads a question and sends whatever bytes it likes."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

Reply = Callable[[bytes], Iterable[bytes]]
"""From the bytes of a question to those that are sent, piece by piece."""


@dataclass(kw_only=True)
class HostileServer:
    """A running server, what it was asked, and how many bytes it got rid of."""

    url: str
    questions: list[bytes] = field(default_factory=list)
    n_sent: int = 0


@contextmanager
def hostile_server(reply: Reply) -> Generator[HostileServer]:
    """Serve on a free port until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    seen = HostileServer(url=f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            question = _question(connection)
            seen.questions.append(question)
            for piece in reply(question):
                if over.is_set():
                    return
                connection.sendall(piece)
                seen.n_sent += len(piece)

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        listening.close()


def _question(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    assert length is not None
    while len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
