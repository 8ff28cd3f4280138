"""The address of a judge's server, looked at before anything is asked there."""

from urllib.parse import urlsplit

from refusalscope.errors import InputError


def require_address(url: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        InputError: no http or https, no host, a port that is none, or characters that no address
            has; the message leaves out a user and a password.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        host.encode("idna")
    except ValueError as error:
        raise _no_address(url, str(error)) from error
    if parts.scheme not in ("http", "https"):
        raise _no_address(url, "it does not begin with http:// or https://")
    if not host:
        raise _no_address(url, "it names no host")
    if port == 0:
        raise _no_address(url, "its port is 0")
    if odd := next((c for c in url if c.isspace() or not c.isprintable()), None):
        raise _no_address(url, f"it holds {odd!r}")


def _no_address(url: str, why: str) -> InputError:
    shown = url.rpartition("@")[2]
    why = why if "@" not in url else "what follows the user is none"
    return InputError(
        f"--server {shown!r} is not the address of a server ({why}); give one such as "
        f"http://localhost:8000/v1"
    )
