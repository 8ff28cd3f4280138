"""What is no address of a server is told before anything is asked there."""

import pytest

from refusalscope.errors import InputError
from refusalscope.evaluation.server_address import require_address

BAD = (
    *("", "x", "localhost:8000", "ftp://host/v1", "file:///etc/passwd", "http://", "http:///v1"),
    *("http://host:x/v1", "http://host:99999/v1", "http://host:-1/v1", "http://host:0/v1"),
    *("http://a b/v1", "http://host/\nv1", "http://h\x1b[2Jost/v1", "http://host/\u202e"),
    *("http://[::1/v1", "http://" + "a" * 70 + ".com", "http://..com/v1", "//host/v1"),
)


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is not the address of a server"):
        require_address(url)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8000/v1", "https://api.host/v1", "http://[::1]:80/v1", "http://größe/"],
)
def test_an_address_is_taken(url: str) -> None:
    require_address(url)


def test_what_is_refused_is_shown_without_its_user() -> None:
    with pytest.raises(InputError) as refused:
        require_address("http://someone:secret@host:99999/v1")
    assert "secret" not in str(refused.value)
    assert "someone" not in str(refused.value)
