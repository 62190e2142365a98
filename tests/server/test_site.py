"""The server says how it is to whom it may, and to nobody else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from loopwright.cli.main import cli
from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.deploy.address import token_digest
from loopwright.deploy.message import Request, Response
from loopwright.loop.alarm import keep_conditions
from loopwright.loop.condition import Condition
from loopwright.loop.file import parse_loop_file
from loopwright.loop.timetable import Slot, put_slot, went_wrong
from loopwright.server.gauge import gauges, metrics_text
from loopwright.server.keeper import Attended
from loopwright.server.process import ServerPlan, _only_server_of
from loopwright.server.site import Answers, ServerSite
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _ask(site: ServerSite, path: bytes, method: bytes = b"GET", **headers: bytes) -> Response:
    named = {name.encode().replace(b"_", b"-"): value for name, value in headers.items()}
    request = Request(method=method, target=path, headers={b"host": b"127.0.0.1:8700", **named})
    found: Any = site.answer(request)
    return found  # type: ignore[no-any-return]


@pytest.fixture
def answers() -> Answers:
    found = Answers()
    found.is_well = lambda: True
    return found


def test_ping_tells_whether_the_loops_are_looked_after(answers: Answers) -> None:
    site = ServerSite(answers, token_digest=None)

    assert _ask(site, b"/ping").status == 200
    answers.is_well = lambda: False
    assert _ask(site, b"/ping").status == 503


def test_a_page_on_the_web_cannot_ask_under_another_name(answers: Answers) -> None:
    site = ServerSite(answers, token_digest=None)

    assert _ask(site, b"/status", host=b"evil.example").status == 421


def test_with_a_token_nothing_is_answered_without_it(answers: Answers) -> None:
    site = ServerSite(answers, token_digest=token_digest("a long enough token"))

    assert [_ask(site, path).status for path in (b"/ping", b"/status", b"/metrics")] == [401] * 3
    assert _ask(site, b"/ping", authorization=b"Bearer wrong").status == 401
    assert _ask(site, b"/ping", authorization=b"Bearer a long enough token").status == 200


@pytest.mark.parametrize(
    ("path", "method", "status"), [(b"/x", b"GET", 404), (b"/ping", b"POST", 405)]
)
def test_what_is_not_there_is_refused(
    answers: Answers, path: bytes, method: bytes, status: int
) -> None:
    assert _ask(ServerSite(answers, token_digest=None), path, method).status == status


def test_other_machines_are_let_in_with_a_token_only() -> None:
    with pytest.raises(InvalidInputError, match="LOOPWRIGHT_SERVER_TOKEN"):
        ServerPlan(host="192.0.2.7").checked()
    with pytest.raises(InvalidInputError, match="16"):
        ServerPlan(host="192.0.2.7", token="short").checked()

    with pytest.raises(InvalidInputError, match="cannot be ended after 5 seconds"):
        ServerPlan(turn_limit_s=5).checked()
    plan = ServerPlan(host="192.0.2.7", token="a-token-long-enough").checked()
    assert "a-token-long-enough" not in repr(plan)


def test_the_command_opens_no_door_to_others_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOOPWRIGHT_SERVER_TOKEN", raising=False)

    words = ["--home", str(tmp_path / "home"), "server", "--host", "192.0.2.7"]
    found = CliRunner().invoke(cli, words)

    assert found.exit_code == 2
    assert "LOOPWRIGHT_SERVER_TOKEN" in found.output
    assert not (tmp_path / "home").exists()


def test_a_home_has_one_server(tmp_path: Path) -> None:
    with (
        _only_server_of(tmp_path),
        pytest.raises(WrongStateError, match="Another server"),
        _only_server_of(tmp_path),
    ):
        pass


def test_alarms_failures_and_quality_are_figures_that_prometheus_reads(tmp_path: Path) -> None:
    workspace = open_workspace(read_settings({}, home=tmp_path), clock=FixedClock())
    loop = parse_loop_file(
        b"name: shop\nproblem: {target: price, criteria: [{metric: mape, at_most: 0.5}]}\n"
        b"data: {source: {kind: file, path: sales.csv}}\n"
    )
    wrong = Condition(kind="data", mark="1", subject='a "b"\n', message="moved")
    keep_conditions(workspace, loop, [wrong], kinds={"data"})
    put_slot(workspace.metadata, went_wrong(Slot(loop="shop", task="look"), now=NOW, told="down"))
    figure = {"metric": "mape", "period": "since deployment", "estimate": 0.25, "target": 0.5}
    report = {"verdict": "ok", "figures": [{**figure, "lower": None, "upper": None}]}
    workspace.metadata.put("monitor", "shop", {"report": report})

    found = gauges(workspace, [Attended(name="shop", file="loop.yaml")])
    lines = metrics_text(found, turned_at=NOW).decode().splitlines()

    assert 'loopwright_alarms_open{loop="shop",kind="data"} 1' in lines
    assert 'loopwright_messages_waiting{loop="shop"} 1' in lines
    assert 'loopwright_task_failures{loop="shop",task="look"} 1' in lines
    label = 'loop="shop",metric="mape",period="since deployment",value="estimate"'
    assert f"loopwright_quality{{{label}}} 0.25" in lines
    assert msgspec.json.encode(found[0].to_json())
