"""Telling alarms by e-mail: SMTP over TLS, headers that cannot be forged, an end in time."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError
from loopwright.core.quantity import seconds
from loopwright.monitor.notice import Notice, one_line
from loopwright.monitor.sink import EmailSink, secret_value
from loopwright.monitor.webhook import checked_address, ended_after


def mail_notice(
    sink: EmailSink,
    notice: Notice,
    *,
    environ: Mapping[str, str],
    now: datetime,
    context: ssl.SSLContext | None = None,
) -> None:
    """Send a notice by e-mail; return when the mail server has taken it for every recipient.

    Every attempt carries the same `Message-ID`, by which mail systems tell doubles.

    Parameters
    ----------
    context
        Which certificates are trusted; those of the system when absent.

    Raises
    ------
    BackendError
        If the server cannot be reached in time, or does not take the message; another try may work.
    InvalidInputError
        If the variable of the password is not set, or the server is a cloud's metadata service.
    """
    password = secret_value(sink.password, field="the mail's password", environ=environ)
    host, port = sink.place()
    place = f"The mail server {host}:{port}"
    timeout_s = seconds(sink.timeout, field="timeout")
    address = checked_address(host, port, place=place, allow_private=True)
    try:
        _send(
            sink,
            mail_of(sink, notice, now=now),
            (host, address, port),
            timeout_s,
            password,
            context,
        )
    except smtplib.SMTPRecipientsRefused as cause:
        refused = ", ".join(sorted(cause.recipients))
        raise _failed(f"{place} does not take mail for {one_line(refused, longest=200)}") from cause
    except smtplib.SMTPResponseException as cause:
        said = cause.smtp_error
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        # what a server says to a password is not repeated: it may hold what was sent
        is_login = isinstance(cause, smtplib.SMTPAuthenticationError)
        told = "it does not accept the user and password" if is_login else one_line(text)[:200]
        raise _failed(f"{place} answers {cause.smtp_code}: {told}") from (
            None if is_login else cause
        )
    except (OSError, smtplib.SMTPException, ValueError) as cause:
        reason = one_line(str(cause), longest=200) or type(cause).__name__
        raise _failed(f"{place} cannot be told: {reason}") from cause


def mail_of(sink: EmailSink, notice: Notice, *, now: datetime) -> EmailMessage:
    """Return the message of a notice."""
    message = EmailMessage()
    message["Subject"] = notice.title
    message["From"] = sink.sender
    message["To"] = ", ".join(sink.recipients())
    message["Date"] = format_datetime(now)
    # an id of its own for each sink, or a list of several would be taken for one message
    mark = digest_value([notice.key, *sink.recipients()])[7:39]
    message["Message-ID"] = f"<{mark}@loopwright>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Loopwright-Key"] = notice.key
    message.set_content(notice.text + "\n", charset="utf-8")
    return message


class _Line(smtplib.SMTP):
    """A client that connects to the address that was checked, and knows the host by its name."""

    def __init__(self, host: str, address: str, timeout_s: float, context: ssl.SSLContext | None):
        self._address = address
        self._context = context
        self._named = host
        # a second handle, so that a handshake under way can be ended too
        self.guard: socket.socket | None = None
        own = socket.gethostname()
        super().__init__(local_hostname=own if "." in own else "[127.0.0.1]", timeout=timeout_s)
        self._host = host  # what a certificate must be for, after STARTTLS

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        wire = socket.create_connection((self._address, port), timeout)
        self.guard = wire.dup()
        if self._context is not None:
            wire = self._context.wrap_socket(wire, server_hostname=self._named)
        return wire


def _send(
    sink: EmailSink,
    message: EmailMessage,
    place: tuple[str, str, int],
    timeout_s: float,
    password: str | None,
    context: ssl.SSLContext | None,
) -> None:
    host, address, port = place
    context = context or ssl.create_default_context()
    line = _Line(host, address, timeout_s, context if sink.security == "tls" else None)

    def end() -> None:
        if line.guard is not None:
            line.guard.shutdown(socket.SHUT_RDWR)

    with ended_after(timeout_s, end):
        try:
            line.connect(host, port)
            if sink.security == "starttls":
                line.starttls(context=context)
            if sink.user is not None and password is not None:
                line.login(sink.user, password)
            refused = line.send_message(message, sink.sender, list(sink.recipients()))
            if refused:
                raise smtplib.SMTPRecipientsRefused(refused)
            line.quit()
        finally:
            line.close()
            if line.guard is not None:
                line.guard.close()


def _failed(told: str) -> BackendError:
    return BackendError(
        f"{told.rstrip('.')}.", hint="It is tried again later.", retryable=True, field="server"
    )
