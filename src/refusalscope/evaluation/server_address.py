"""Where a judge's server is, and what must not be shown of it: its key, its user and password."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

import httpx2

from refusalscope.errors import InputError

_KEY = re.compile(r"[\x21-\x7e]+")
_SHORTEST_SECRET = 4
"""Shorter keys are placeholders; a server's answers would lose half their letters with them."""
_HIDDEN = "[key]"
_SAID = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """A server's address.

    Attributes:
        url: Up to `/v1`, without the user part; this is what is shown and recorded.
        user: Name and password of the user part; None without one.
    """

    url: str
    user: tuple[str, str] | None = field(default=None, repr=False)


def server_address(given: str) -> ServerAddress:
    """Take an address apart.

    Raises:
        InputError: it is not `http(s)://HOST[:PORT]/...`. The message has no user part.
    """
    try:
        url = httpx2.URL(given.strip())
    except httpx2.InvalidURL as error:
        # With a user part, what is wrong may be a piece of the password.
        raise _no_address(given, "" if "@" in given else printable(str(error))) from None
    port = 80 if url.port is None else url.port
    reason = (
        "an @ in a user part or a path is written %40, a / %2F, a ? %3F"
        if "@" in given and not url.userinfo
        else f"its scheme is {url.scheme!r}"
        if url.scheme not in ("http", "https")
        else "it names no host"
        if not url.host.strip(".")
        else f"its port is {port}, not 1 to 65535"
        if not 0 < port < 65536
        else "it has a ? or a #, which a path cannot follow"
        if url.query or "?" in given or "#" in given
        else "a part of its host is longer than 63 letters"
        if any(len(label) > 63 for label in url.host.split("."))
        else None
    )
    if reason is not None:
        raise _no_address(given, reason)
    plain = str(url.copy_with(username="", password="")).rstrip("/")
    return ServerAddress(url=plain, user=(url.username, url.password) if url.userinfo else None)


def require_key(key: str | None) -> None:
    """Refuse a key that no header can carry, without showing it.

    Raises:
        InputError: it is empty, or has a blank, a line end, or another character than plain ones.
    """
    if key is not None and not _KEY.fullmatch(key):
        fault = "empty" if not key.strip() else "not one word of plain ASCII characters"
        raise InputError(
            f"the server's key is {fault}; put the key alone into its environment variable, "
            f"without blanks and line ends"
        )


class Redactor:
    """Takes what must not be shown out of whatever a server says.

    Servers repeat the headers of a question in their errors, plain or encoded.
    """

    def __init__(self, *, key: str | None, user: tuple[str, str] | None) -> None:
        hidden: set[str] = set()
        if key is not None:
            hidden |= {f"Bearer {key}", *_spellings(key)}
        if user is not None:
            name, password = user
            pair = base64.b64encode(f"{name}:{password}".encode()).decode()
            hidden |= {f"Basic {pair}", pair, f"{name}:{password}", *_spellings(password or name)}
        self._pattern = _either(sorted(hidden, key=lambda one: (-len(one), one)))

    def __call__(self, text: str) -> str:
        """The text without them."""
        return text if self._pattern is None else self._pattern.sub(_HIDDEN, text)

    def said(self, text: str) -> str:
        """The beginning of a text on one line, for a message."""
        return self(printable(self(text)))[:_SAID]


def printable(text: str) -> str:
    """A text on one line, without characters that steer a terminal or turn its writing around."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _spellings(secret: str) -> set[str]:
    """A secret as it may come back: as it is, in an address, in JSON, in base64."""
    if len(secret) < _SHORTEST_SECRET:
        return set()
    encoded = base64.b64encode(secret.encode("utf-8", "replace")).decode()
    return {
        secret,
        unquote(secret),
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        encoded,
        encoded.rstrip("="),
    }


def _either(words: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None


def _no_address(given: str, reason: str) -> InputError:
    _, has_user, behind = given.rpartition("@")
    shown = printable(("...@" if has_user else "") + re.split(r"[?#]", behind)[0])[:_SAID]
    return InputError(
        f"--server {shown!r} is not the address of a server{f' ({reason})' if reason else ''}; "
        f"expected http(s)://HOST[:PORT]/v1"
    )
