"""Telling alarms to a web address: checked before it is connected to, signed, ended in time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from urllib.parse import quote, urlsplit

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.quantity import seconds
from loopwright.data.web import is_metadata, is_public, shown
from loopwright.monitor.notice import Notice, one_line
from loopwright.monitor.sink import WebhookSink, check_address, secret_value

_AS_IT_IS = "%/:=&?~#+!$,;'@()*[]"
_LATER = frozenset({408, 425, 429})


def post_notice(
    sink: WebhookSink, notice: Notice, *, environ: Mapping[str, str], now: datetime
) -> None:
    """Send a notice to a web address; return when the other side has taken it (2xx).

    Every attempt carries the same `webhook-id` and `idempotency-key`, by which the other side can
    tell that it has it already. Redirects are not followed, proxies not used.

    Raises
    ------
    BackendError
        If the address cannot be reached in time or answers anything else; another try may work.
    InvalidInputError
        If the address leads inside without `allow_private`, or a variable is not set.
    """
    url = sink.url
    if url.startswith("env:"):
        url = secret_value(url, field="the webhook's url", environ=environ) or ""
        check_address(url, field="the webhook's url")
    value = notice.to_json() if sink.body == "full" else {"text": notice.text}
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    headers = _headers(sink, notice, body, environ=environ, now=now)
    place = "the webhook" if sink.url.startswith("env:") else shown(url)
    status, reason = _answer(sink, url, body, headers, place)
    if 200 <= status < 300:
        return
    told = f"{place} answers {status} {one_line(reason, longest=100)}".rstrip() + "."
    hint = "It is tried again later."
    if 300 <= status < 400:
        hint = "Redirects are not followed: name the final address."
    elif status < 500 and status not in _LATER:
        hint = "Correct the address, the token or the secret; it is tried again later."
    raise BackendError(told, hint=hint, retryable=True, field="url")


def _headers(
    sink: WebhookSink, notice: Notice, body: bytes, *, environ: Mapping[str, str], now: datetime
) -> dict[str, str]:
    moment = str(int(now.timestamp()))
    headers = {
        "content-type": "application/json; charset=utf-8",
        "user-agent": "loopwright",
        "webhook-id": notice.key,
        "webhook-timestamp": moment,
        "idempotency-key": notice.key,
        "connection": "close",
    }
    secret = secret_value(sink.secret, field="the webhook's secret", environ=environ)
    if secret is not None:
        headers["webhook-signature"] = signature(secret, notice.key, moment, body)
    token = secret_value(sink.token, field="the webhook's token", environ=environ)
    if token is not None:
        if any(not 32 <= ord(letter) < 127 for letter in token):
            raise InvalidInputError(
                "The webhook's token holds characters that no header may hold.",
                hint="Set it anew, without a line break at its end.",
                field="token",
            )
        headers["authorization"] = f"Bearer {token}"
    return headers


def signature(secret: str, key: str, moment: str, body: bytes) -> str:
    """Return the `webhook-signature` of a body.

    Parameters
    ----------
    secret
        Text, or `whsec_` and base64.
    key, moment
        The headers `webhook-id` and `webhook-timestamp`.

    Notes
    -----
    HMAC-SHA256 of `key.moment.body`, as https://www.standardwebhooks.com says.
    """
    if secret.startswith("whsec_"):
        try:
            held = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError as cause:
            raise InvalidInputError(
                "The webhook's secret starts with whsec_, but no base64 follows.",
                hint="Copy it anew.",
                field="secret",
            ) from cause
    else:
        held = secret.encode()
    mac = hmac.new(held, f"{key}.{moment}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


def _answer(
    sink: WebhookSink, url: str, body: bytes, headers: Mapping[str, str], place: str
) -> tuple[int, str]:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    timeout_s = seconds(sink.timeout, field="timeout")
    address = checked_address(host, port, place=place, allow_private=sink.allow_private)
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_AS_IT_IS)
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        wire = socket.create_connection((address, port), timeout=timeout_s)
        with wire.dup() as guard, ended_after(timeout_s, lambda: guard.shutdown(socket.SHUT_RDWR)):
            if secure:
                # the default context asks for a certificate of this very host
                wire = ssl.create_default_context().wrap_socket(wire, server_hostname=host)
            connection.sock = wire
            # http.client says the port only where it is not the usual one, and takes 80 for that
            named = f"[{host}]" if ":" in host else host
            usual = port == (443 if secure else 80)
            connection.putrequest("POST", target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("host", named if usual else f"{named}:{port}")
            for name, value in (*headers.items(), ("content-length", str(len(body)))):
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.reason
    except (OSError, http.client.HTTPException, UnicodeError) as cause:
        reason = one_line(str(cause), longest=200).rstrip(".") or type(cause).__name__
        raise BackendError(
            f"{place} cannot be told: {reason}.",
            hint="It is tried again later.",
            retryable=True,
            field="url",
        ) from cause
    finally:
        connection.close()


def checked_address(host: str, port: int, *, place: str, allow_private: bool) -> str:
    """Return the first address of a host, all of them checked; what is checked is connected to.

    Raises
    ------
    BackendError
        If the name is not known.
    InvalidInputError
        If one of them is this machine's, a private network's or a cloud's metadata service.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as cause:
        raise BackendError(
            f"The host of {place} is not known.",
            hint="Correct the address, or see to the name service.",
            retryable=True,
            field="url",
        ) from cause
    addresses = [str(each[4][0]) for each in found]
    for address in addresses:
        secret = is_metadata(address)
        if secret or not (allow_private or is_public(address)):
            what = "where clouds hand out credentials" if secret else "inside a private network"
            raise InvalidInputError(
                f"{place} leads to {address}, which is {what}.",
                hint="Nothing is sent there."
                if secret
                else "Set allow_private: true at the webhook if that is meant.",
                field="allow_private",
                value=address,
            )
    return addresses[0]


@contextmanager
def ended_after(limit_s: float, end: Callable[[], object]) -> Iterator[None]:
    """Call `end` if the block takes longer: time limits of sockets count anew with every byte.

    Raises
    ------
    TimeoutError
        If `end` was called and the block took what it had by then for the whole.
    """
    is_over = threading.Event()

    def ending() -> None:
        is_over.set()
        with suppress(OSError):
            end()

    timer = threading.Timer(limit_s, ending)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if is_over.is_set():
        raise TimeoutError(f"no whole answer came within {limit_s:g} s")
