"""What a server replies to one question, read within bounds, whatever it sends."""

import json
import math
import zlib
from dataclasses import dataclass

import httpx2

from refusalscope.errors import InputError

LARGEST_REPLY = 1 << 20
"""Bytes of a reply, decoded. A judge's answer is a few lines."""
_LARGEST_ERROR = 4096
"""Bytes that are read of what is no answer."""
_COMPRESSIONS = ("gzip", "x-gzip", "deflate")


class UnreadableReplyError(Exception):
    """A reply that is none; the question may be asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A server's reply.

    Attributes:
        wait: Seconds that `Retry-After` asks for; a date is not understood and ignored.
    """

    status: int
    body: bytes
    wait: float | None

    @property
    def text(self) -> str:
        """The body in UTF-8, as JSON is; whatever charset the server claims."""
        return self.body.decode("utf-8", "replace")


async def ask(client: httpx2.AsyncClient, url: str, body: object) -> Reply:
    """Post a question and read the reply, no more of it than `LARGEST_REPLY` bytes.

    Raises:
        InputError: an answer is larger.
        UnreadableReplyError: it is packed in a way that was not asked for, or damaged.
        httpx2.HTTPError: the connection fails.
    """
    async with client.stream("POST", url, json=body) as response:
        is_answer = response.status_code == httpx2.codes.OK
        limit = LARGEST_REPLY if is_answer else _LARGEST_ERROR
        data = await _read(response, limit=limit)
        if is_answer and len(data) > limit:
            raise InputError(
                f"{url} sends an answer of more than {LARGEST_REPLY >> 20} MiB; a judge's answer "
                f"is a few lines: check --server"
            )
        return Reply(
            status=response.status_code, body=data[:limit], wait=_seconds(response.headers)
        )


async def _read(response: httpx2.Response, *, limit: int) -> bytes:
    """The decoded body, or its beginning: a byte more than `limit` if there is so much."""
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("identity", "", *_COMPRESSIONS):
        raise UnreadableReplyError("an answer in an encoding that was not asked for")
    unpack = zlib.decompressobj(wbits=47) if packing in _COMPRESSIONS else None
    data = bytearray()
    async for chunk in response.aiter_raw():
        try:
            data += chunk if unpack is None else unpack.decompress(chunk, limit + 1 - len(data))
        except zlib.error as error:
            raise UnreadableReplyError("an answer that cannot be unpacked") from error
        if len(data) > limit:
            break
    return bytes(data)


def completion_text(reply: Reply) -> str:
    """The answer's text in the JSON of either route.

    Raises:
        UnreadableReplyError: the reply is no completion, or one without text.
    """
    try:
        choice = json.loads(reply.body.decode("utf-8"))["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableReplyError(f"an answer that is no completion: {reply.text!r}") from error
    if not isinstance(text, str):
        raise UnreadableReplyError(f"an answer without text: {reply.text!r}")
    # JSON may spell half a character, which no file can hold.
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _seconds(headers: httpx2.Headers) -> float | None:
    try:
        seconds = float(headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
