"""Messages between the endpoint and a user's own code: whole or not at all."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.deploy.code_frame import FrameError, receive_message, send_message


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4), st.binary())
def test_what_is_sent_arrives(head: dict[str, str], body: bytes) -> None:
    one, other = socket.socketpair()
    with one, other:
        send_message(one, head, body)
        one.close()

        assert receive_message(other, most_bytes=1 << 20) == (head, body)
        assert receive_message(other, most_bytes=1 << 20) is None


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=64))
def test_what_is_no_message_is_refused(data: bytes) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(data)
        one.close()

        with pytest.raises(FrameError):
            receive_message(other, most_bytes=1 << 20)


def test_a_body_that_is_too_large_is_not_read() -> None:
    one, other = socket.socketpair()
    with one, other:
        thread = threading.Thread(target=lambda: send_message(one, {}, bytes(1000)))
        thread.start()

        with pytest.raises(FrameError, match="1,000 bytes"):
            receive_message(other, most_bytes=999)
        thread.join()


def test_neither_side_waits_longer_than_it_wants() -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(TimeoutError):
            receive_message(other, most_bytes=1, until=time.monotonic() + 0.05)
        with pytest.raises(TimeoutError):
            send_message(one, {}, bytes(8 << 20), until=time.monotonic() + 0.05)
