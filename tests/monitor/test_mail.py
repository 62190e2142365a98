"""Alarms reach a real SMTP server, over TLS, and their words cannot become headers."""

from __future__ import annotations

import datetime as dt
import email
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage, Message
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.monitor.mail import mail_notice, mail_of
from loopwright.monitor.notice import Notice, Told
from loopwright.monitor.sink import EmailSink

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def _notice(message: str = "price moved up.", subject: str = "price") -> Notice:
    told = Told(id="a1", kind="data", subject=subject, message=message)
    return Notice(key="shop-1-opened", event="opened", loop="shop", at=NOW, alarms=(told,))


class MailServer:
    """The part of SMTP (RFC 5321) that a client of ours speaks, on this machine."""

    def __init__(self, context: ssl.SSLContext | None = None, *, at_once: bool = False) -> None:
        self.context = context
        self.at_once = at_once
        self.refuses: dict[str, bytes] = {}
        self.said: list[str] = []
        self.mails: list[Message] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.at_once and self.context:
                    line = self.context.wrap_socket(line, server_side=True)
                self._talk(line)
            except OSError:
                continue
            finally:
                line.close()

    def _talk(self, line: socket.socket) -> None:
        is_secure = self.at_once
        file = line.makefile("rwb")
        self._say(file, b"220 here")
        while words := file.readline().decode().strip():
            self.said.append(words)
            verb = words.split()[0].upper()
            if verb in self.refuses:
                self._say(file, self.refuses[verb])
            elif verb == "EHLO":
                offers = b"250-here\r\n"
                if self.context and not is_secure:
                    offers += b"250-STARTTLS\r\n"
                self._say(file, offers + b"250 AUTH PLAIN")
            elif verb == "STARTTLS" and self.context:
                self._say(file, b"220 go on")
                file.close()
                line = self.context.wrap_socket(line, server_side=True)
                file, is_secure = line.makefile("rwb"), True
            elif verb == "AUTH":
                self._say(file, b"235 welcome")
            elif verb == "DATA":
                self._say(file, b"354 go on")
                held = []
                while (text := file.readline()) != b".\r\n":
                    held.append(text[1:] if text.startswith(b".") else text)
                self.mails.append(email.message_from_bytes(b"".join(held), policy=default))
                self._say(file, b"250 taken")
            else:
                self._say(file, b"221 bye" if verb == "QUIT" else b"250 fine")
        file.close()
        line.close()

    @staticmethod
    def _say(file: Any, text: bytes) -> None:
        file.write(text + b"\r\n")
        file.flush()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "here.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def plain() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.listener.close()


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _sink(server: MailServer, **said: Any) -> EmailSink:
    known = {"to": "ann@example.com", "sender": "loop@example.com", "security": "none"}
    return EmailSink(server=f"127.0.0.1:{server.port}", **{**known, **said})


def test_a_mail_arrives_with_what_tells_doubles(plain: MailServer) -> None:
    mail_notice(_sink(plain), _notice("Ärger: price ↑"), environ={}, now=NOW)

    mail = plain.mails[0]
    assert mail["Subject"] == "[shop] alarm: data, price"
    assert mail["Message-ID"].endswith("@loopwright>")
    assert isinstance(mail, EmailMessage)
    assert "Ärger: price ↑" in mail.get_content()


def test_every_attempt_has_the_same_message_id_and_every_sink_its_own() -> None:
    first = EmailSink(to="a@example.com", sender="l@example.com", server="mail.example.com")
    other = EmailSink(to="b@example.com", sender="l@example.com", server="mail.example.com")

    ids = [mail_of(each, _notice(), now=NOW)["Message-ID"] for each in (first, first, other)]

    assert ids[0] == ids[1] != ids[2]


def test_a_column_name_cannot_become_a_header(plain: MailServer) -> None:
    evil = "price\r\nBcc: everyone@example.com\r\n\r\nbody"

    mail_notice(_sink(plain), _notice(evil, subject=evil), environ={}, now=NOW)

    assert plain.mails[0]["Bcc"] is None
    assert [each for each in plain.said if each.startswith("rcpt TO")] == [
        "rcpt TO:<ann@example.com>"
    ]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_password_goes_over_a_secure_line(certificate: Path, at_once: bool) -> None:
    server = MailServer(_server_context(certificate), at_once=at_once)
    trusted = ssl.create_default_context(cafile=str(certificate))
    security = "tls" if at_once else "starttls"
    sink = _sink(server, security=security, user="ann", password="env:MAIL")

    mail_notice(sink, _notice(), environ={"MAIL": "s3cret"}, now=NOW, context=trusted)

    server.listener.close()
    assert len(server.mails) == 1
    spoken = [each.split()[0].upper() for each in server.said]
    assert spoken.index("AUTH") > (0 if at_once else spoken.index("STARTTLS"))


def test_a_server_with_a_certificate_nobody_trusts_gets_nothing(certificate: Path) -> None:
    server = MailServer(_server_context(certificate))
    sink = _sink(server, security="starttls", user="ann", password="env:MAIL")

    with pytest.raises(BackendError, match="CERTIFICATE_VERIFY_FAILED"):
        mail_notice(sink, _notice(), environ={"MAIL": "s3cret"}, now=NOW)

    server.listener.close()
    assert not any(each.upper().startswith(("AUTH", "MAIL")) for each in server.said)


def test_a_server_without_starttls_gets_nothing(plain: MailServer) -> None:
    with pytest.raises(BackendError, match="STARTTLS"):
        mail_notice(_sink(plain, security="starttls"), _notice(), environ={}, now=NOW)

    assert not plain.mails


def test_a_refused_recipient_is_a_failure_that_names_it(plain: MailServer) -> None:
    plain.refuses = {"RCPT": b"550 no such person"}

    with pytest.raises(BackendError, match=r"ann@example\.com"):
        mail_notice(_sink(plain), _notice(), environ={}, now=NOW)


def test_a_refused_password_is_not_repeated(plain: MailServer) -> None:
    plain.refuses = {"AUTH": b"535 wrong: s3cret"}
    sink = _sink(plain, user="ann", password="env:MAIL")

    with pytest.raises(BackendError, match="does not accept") as caught:
        mail_notice(sink, _notice(), environ={"MAIL": "s3cret"}, now=NOW)

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_says_nothing_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sink = EmailSink(
            to="a@example.com",
            sender="l@example.com",
            server=f"127.0.0.1:{listener.getsockname()[1]}",
            security="none",
            timeout="1 second",
        )
        clock = time.monotonic()

        with pytest.raises(BackendError):
            mail_notice(sink, _notice(), environ={}, now=NOW)

    assert time.monotonic() - clock < 3


def test_a_password_that_is_not_set_is_told_by_the_name_of_its_variable(plain: MailServer) -> None:
    with pytest.raises(InvalidInputError, match="MAIL"):
        mail_notice(_sink(plain, user="ann", password="env:MAIL"), _notice(), environ={}, now=NOW)
