from __future__ import annotations

import socket

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import check_port, free_port, token_digest
from loopwright.deploy.address import is_loopback, is_own_host, is_token


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()

    check_port("127.0.0.1", port)

    assert port > 1023


def test_a_taken_port_is_refused_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InvalidInputError, match="another program listens there") as caught:
            check_port("127.0.0.1", port)

    assert caught.value.facts == {"field": "deploy.port", "value": port}
    assert "leave it out" in caught.value.hint


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not one of this machine's"):
        check_port("192.0.2.1", 8080)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_loopback_addresses_are_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_only_the_right_token_in_the_right_scheme_opens() -> None:
    digest = token_digest("secret")

    assert is_token(b"Bearer secret", digest)
    assert is_token(b"bearer  secret", digest)
    for header in (None, b"", b"secret", b"Basic secret", b"Bearer ", b"Bearer secret2", b"Bearer"):
        assert not is_token(header, digest)


def test_a_missing_host_header_is_that_of_http_1_0() -> None:
    assert is_own_host(None, frozenset())
    assert not is_own_host(b"evil.example:80", frozenset())
    assert is_own_host(b"PRICES.example:80", frozenset({"prices.example"}))
