"""Where alarms are told: the entries of `monitor.alarms` in a loop file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds

_LONGEST_S = 300.0
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f]+@[^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f]+")


class LogSink(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="log",
    tag_field="kind",
):
    """A line of JSON at the end of a file, and one in the log of the process.

    Parameters
    ----------
    path
        The file; a relative one lies in the home folder.
    """

    path: str = "alarms.jsonl"


class WebhookSink(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="webhook",
    tag_field="kind",
):
    """A POST of JSON to an http(s) address.

    Parameters
    ----------
    url
        The address, or `env:NAME` where it holds a secret, as those of chat services do.
    body
        `full`: everything about the alarms. `text`: `{"text": ...}` alone, which chat services read.
    secret
        `env:NAME` of the secret that signs the body, as Standard Webhooks says.
    token
        `env:NAME` of a token for the `Authorization: Bearer` header.
    allow_private
        Whether the address may be this machine's or a private network's.
    timeout
        How long one attempt may take in all.
    """

    url: str
    body: Literal["full", "text"] = "full"
    secret: str | None = None
    token: str | None = None
    allow_private: bool = False
    timeout: str = "10 seconds"


class EmailSink(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="email",
    tag_field="kind",
):
    """A message by SMTP.

    Parameters
    ----------
    to
        One address or several.
    server
        The mail server, as `host` or `host:port`.
    sender
        The address it comes from.
    security
        `starttls`: an open line is turned into a secure one, or the mail is not sent. `tls`: the
        line is secure from the start. `none`: for a server on this machine.
    user
        Who sends.
    password
        `env:NAME` of the password.
    timeout
        How long one attempt may take in all.
    """

    to: str | tuple[str, ...]
    server: str
    sender: str
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: str | None = None
    timeout: str = "30 seconds"

    def recipients(self) -> tuple[str, ...]:
        """Return the addresses it goes to."""
        return (self.to,) if isinstance(self.to, str) else self.to

    def place(self) -> tuple[str, int]:
        """Return the host and the port of the server."""
        host, colon, port = self.server.rpartition(":")
        if colon and port.isdigit() and "]" not in port:
            return host.strip("[]"), int(port)
        return self.server.strip("[]"), {"tls": 465, "starttls": 587, "none": 25}[self.security]


class CommandSink(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="command",
    tag_field="kind",
):
    """A program that is given the alarms as JSON on its standard input; no shell reads its words.

    Parameters
    ----------
    run
        The program and its arguments, one by one. It starts in the folder of the loop file.
    timeout
        When it is ended, with all that it started.
    """

    run: tuple[str, ...]
    timeout: str = "1 minute"


AlarmSink: TypeAlias = LogSink | WebhookSink | EmailSink | CommandSink


def sink_name(sink: AlarmSink) -> str:
    """Return what tells a sink apart from others, without what may be secret in it.

    It goes by where the sink leads alone: what waits for a sink whose secret, time limit or
    permission is put right is not lost.

    Examples
    --------
    >>> sink_name(LogSink())
    'log-alarms.jsonl-4445873b'
    """
    place, shown = _place_of(sink)
    kind = str(msgspec.to_builtins(sink)["kind"])
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", shown).strip("-")[:40]
    return f"{kind}-{word}-{digest_value([kind, *place])[7:15]}"


def _place_of(sink: AlarmSink) -> tuple[list[str], str]:
    """Return where a sink leads, and the part of it that a person knows it by."""
    if isinstance(sink, WebhookSink):
        is_secret = sink.url.startswith("env:")
        host = sink.url if is_secret else urlsplit(sink.url).netloc.rpartition("@")[2]
        return [sink.url, sink.body], host.removeprefix("env:")
    if isinstance(sink, EmailSink):
        return [*sink.recipients(), sink.server], ", ".join(sink.recipients())
    if isinstance(sink, CommandSink):
        return list(sink.run), sink.run[0].rpartition("/")[2]
    return [sink.path], sink.path.rpartition("/")[2]


def checked_sinks(sinks: tuple[AlarmSink, ...], *, field: str) -> None:
    """Return if alarms can be told so, as far as the words of the file say.

    Raises
    ------
    InvalidInputError
        If an address, a duration or a program cannot be used, or a secret stands in the file.
    """
    known: set[str] = set()
    for index, sink in enumerate(sinks):
        place = f"{field}[{index}]"
        if isinstance(sink, WebhookSink):
            _check_webhook(sink, place)
        elif isinstance(sink, EmailSink):
            _check_email(sink, place)
        elif isinstance(sink, CommandSink):
            _check_command(sink, place)
        else:
            _check_log(sink, place)
        if not isinstance(sink, LogSink):
            _check_timeout(sink.timeout, f"{place}.timeout")
        if (name := sink_name(sink)) in known:
            raise _wrong(place, name, "It stands there twice; keep one of them.")
        known.add(name)


def secret_value(given: str | None, *, field: str, environ: Mapping[str, str]) -> str | None:
    """Return what an `env:NAME` stands for; None for None.

    Raises
    ------
    InvalidInputError
        If the variable is not set. The value itself is never part of an error.
    """
    if given is None:
        return None
    name = given.removeprefix("env:")
    value = environ.get(name)
    if not value:
        raise InvalidInputError(
            f"The environment variable {name}, which {field} names, is not set.",
            hint=f"Set {name} where the loop runs.",
            field=field,
            value=given,
        )
    return value


def _check_webhook(sink: WebhookSink, place: str) -> None:
    if not sink.url.startswith("env:"):
        check_address(sink.url, field=f"{place}.url")
    _check_secret(sink.secret, f"{place}.secret")
    _check_secret(sink.token, f"{place}.token")


def check_address(url: str, *, field: str) -> None:
    """Return if text is an http(s) address that a request can be sent to.

    Raises
    ------
    InvalidInputError
        If it is none, or it holds a user and a password. The address is not part of the error.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if not fits or any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise InvalidInputError(
            f"{field} is no http or https address.",
            hint="Write https://host/path, or env:NAME for an address from the environment.",
            field=field,
            value=None,
        )
    if "@" in parts.netloc:
        raise InvalidInputError(
            f"{field} holds a user or a password.",
            hint="Name a token instead: token: env:NAME.",
            field=field,
            value=None,
        )


def _check_email(sink: EmailSink, place: str) -> None:
    if not sink.recipients():
        raise _wrong(f"{place}.to", sink.to, "Name at least one address.")
    for address in (*sink.recipients(), sink.sender):
        if not _ADDRESS.fullmatch(address) or len(address) > 254:
            key = "sender" if address == sink.sender else "to"
            raise _wrong(f"{place}.{key}", address, "Write an address such as ann@example.com.")
    host, port = sink.place()
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", host) or not 0 < port < 65_536:
        raise _wrong(f"{place}.server", sink.server, "Write a host, or host:port.")
    _check_secret(sink.password, f"{place}.password")
    if (sink.user is None) != (sink.password is None):
        raise _wrong(f"{place}.user", sink.user, "Give both, user and password, or none.")
    is_here = host == "localhost" or host.startswith("127.") or host == "::1"
    if sink.security == "none" and sink.password is not None and not is_here:
        raise _wrong(
            f"{place}.security", sink.security, "A password goes over a secure line: use starttls."
        )


def _check_command(sink: CommandSink, place: str) -> None:
    if not sink.run or not sink.run[0] or any("\0" in word for word in sink.run):
        raise _wrong(
            f"{place}.run", list(sink.run), "Write the program and its arguments as a list."
        )


def _check_log(sink: LogSink, place: str) -> None:
    if not sink.path or "\0" in sink.path:
        raise _wrong(f"{place}.path", sink.path, "Name a file.")


def _check_secret(given: str | None, field: str) -> None:
    if given is not None and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", given):
        raise InvalidInputError(
            f"{field} is not the name of an environment variable.",
            hint="Secrets do not stand in a loop file; write env:NAME and set NAME.",
            field=field,
            value=None,
        )


def _check_timeout(given: str, field: str) -> None:
    if not 1 <= seconds(given, field=field) <= _LONGEST_S:
        raise _wrong(field, given, f"Write 1 second to {_LONGEST_S / 60:g} minutes.")


def _wrong(field: str, value: object, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"{field} is {value!r}, which cannot be used.", hint=hint, field=field, value=value
    )
