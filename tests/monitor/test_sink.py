"""The sinks of a loop file are checked before anything runs, and hold no secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.monitor.notice import Notice, Told, one_line
from loopwright.monitor.sink import AlarmSink, checked_sinks, sink_name
from loopwright.monitor.telling import Surroundings, tell

MAIL = {"kind": "email", "to": "a@example.com", "sender": "l@example.com", "server": "mail.example"}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _sinks(*said: dict[str, object]) -> tuple[AlarmSink, ...]:
    return msgspec.convert(list(said), tuple[AlarmSink, ...])


def test_sinks_of_every_kind_can_be_written() -> None:
    sinks = _sinks(
        {"kind": "log"},
        {"kind": "webhook", "url": "https://hooks.example/x", "secret": "env:S"},
        {"kind": "webhook", "url": "env:CHAT_URL", "body": "text"},
        {**MAIL, "to": ["a@example.com", "b@example.com"], "user": "l", "password": "env:P"},
        {"kind": "command", "run": ["page-me", "--now"]},
    )

    checked_sinks(sinks, field="monitor.alarms")

    assert len({sink_name(each) for each in sinks}) == 5


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"kind": "webhook", "url": "ftp://x/y"}, "url"),
        ({"kind": "webhook", "url": "https://u:p@x/y"}, "url"),
        ({"kind": "webhook", "url": "https://x/y\r\nz: 1"}, "url"),
        ({"kind": "webhook", "url": "https://x:99999/y"}, "url"),
        ({"kind": "webhook", "url": "https://x/y", "secret": "hunter2"}, "secret"),
        ({"kind": "webhook", "url": "https://x/y", "timeout": "1 hour"}, "timeout"),
        ({**MAIL, "to": "a@example.com\r\nBcc: b@example.com"}, "to"),
        ({**MAIL, "to": []}, "to"),
        ({**MAIL, "sender": "nobody"}, "sender"),
        ({**MAIL, "server": "mail example"}, "server"),
        ({**MAIL, "user": "l", "password": "hunter2"}, "password"),
        ({**MAIL, "user": "l"}, "user"),
        ({**MAIL, "user": "l", "password": "env:P", "security": "none"}, "security"),
        ({"kind": "command", "run": []}, "run"),
        ({"kind": "log", "path": ""}, "path"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key(said: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        checked_sinks(_sinks({"kind": "log"}, said), field="monitor.alarms")

    assert caught.value.facts["field"] == f"monitor.alarms[1].{field}"
    assert "hunter2" not in str(caught.value)


def test_the_same_sink_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="twice"):
        checked_sinks(_sinks({"kind": "log"}, {"kind": "log"}), field="monitor.alarms")


def test_the_log_gets_one_line_per_notice(tmp_path: Path) -> None:
    notice = Notice(
        key="k",
        event="opened",
        loop="shop",
        at=NOW,
        alarms=(Told(id="a1", kind="data", subject="x", message="two\nlines"),),
    )
    around = Surroundings(home=tmp_path, folder=tmp_path, environ={})

    for _ in range(2):
        tell(_sinks({"kind": "log"})[0], notice, around=around, now=NOW)

    lines = (tmp_path / "alarms.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["k", "k"]


@given(st.text(max_size=2_000))
@settings(max_examples=50)
def test_a_line_never_holds_a_control_character_and_can_be_encoded(text: str) -> None:
    line = one_line(text, longest=100)

    assert len(line) <= 100
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in line)
    line.encode()


def test_a_sink_whose_secret_or_permission_is_put_right_is_still_the_same() -> None:
    address = {"kind": "webhook", "url": "https://hooks.example/x"}
    before, after, elsewhere = _sinks(
        address,
        {**address, "secret": "env:S", "allow_private": True, "timeout": "5 seconds"},
        {**address, "url": "https://hooks.example/y"},
    )

    assert sink_name(before) == sink_name(after)
    assert sink_name(before).startswith("webhook-hooks.example-")
    assert sink_name(elsewhere) != sink_name(before)
