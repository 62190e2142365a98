"""Invocations on the event loop: the same answers, and never older orders than the store has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from loopwright.core.clock import FixedClock
from loopwright.sagemaker import model_line
from loopwright.sagemaker.desk import ACCOUNT, REGION, Caller, Desk
from loopwright.sagemaker.dispatch import Dispatcher
from loopwright.sagemaker.endpoint_record import ENDPOINTS
from loopwright.sagemaker.key import AccessKey, new_key, revoke_key
from loopwright.sagemaker.message import Answer, HeldBody, Request
from loopwright.sagemaker.remembered import Remembered
from loopwright.sagemaker.s3.store import ObjectStore
from loopwright.sagemaker.short_way import ShortWay
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

HOST = "127.0.0.1:8333"
CALLER = Caller(access_key="", account=ACCOUNT, region=REGION)
Reply = Callable[[int, bytes], bytes]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    workspace = open_workspace(read_settings({}, home=home))
    objects = ObjectStore(home / "s3", FixedClock())
    yield Desk(workspace=workspace, objects=objects, url=f"http://{HOST}", job_key=("", ""))
    workspace.metadata.close()


@pytest.fixture
def key(desk: Desk) -> AccessKey:
    return new_key(desk.workspace.metadata, user="ann", purpose="tests")


class Model:
    """A process of an endpoint, of which a test says what it answers."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[bytes] = []
        self.n_connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(size)
                self.asked.append(head + body)
                answer = self.reply(len(self.asked), body)
                if not answer:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    def hang_up(self) -> None:
        for each in self._writers:
            each.close()


def ok(_n: int, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


@asynccontextmanager
async def served(desk: Desk, reply: Reply = ok, **live: Any) -> AsyncIterator[tuple[Model, Any]]:
    """Have an endpoint `e` answered by a model of a test; yield it and the short way."""
    model = Model(reply)
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    variant = {"name": "v", "own": "v0", "weight": 1.0, "shadow": False, "kind": "script"}
    variants = [{**variant, "port": port, **live}]
    ENDPOINTS.create(desk, CALLER, "e", {}, change=None, live={"variants": variants}, plan={})
    memory = Remembered(desk.workspace.metadata)
    short = ShortWay(desk, memory, aside=lambda call: call())
    try:
        yield model, (short, Dispatcher(desk, memory))
    finally:
        short.close()
        model.hang_up()
        server.close()
        memory.close()
        await asyncio.sleep(0)


def invocation(key: AccessKey, body: bytes = b"[1]", **headers: str) -> Request:
    asked = AWSRequest("POST", f"http://{HOST}/endpoints/e/invocations", data=body, headers=headers)
    SigV4Auth(Credentials(key.id, key.secret), "sagemaker", REGION).add_auth(asked)
    found = {name.lower(): str(value) for name, value in asked.headers.items()}
    return Request(
        method="POST",
        target="/endpoints/e/invocations",
        headers={"host": HOST, **found},
        body=HeldBody(body),
    )


async def taken(short: ShortWay, request: Request) -> Answer | None:
    """Return the answer, or None if the request has to go the long way."""
    told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    if not short.take(request, told.set_result):
        return None
    return await asyncio.wait_for(told, 10)


async def warmed(ways: Any, key: AccessKey) -> ShortWay:
    """Have the key and the endpoint remembered, as requests on the long way do it."""
    short, dispatch = ways
    await asyncio.to_thread(dispatch, invocation(key))
    assert await taken(short, invocation(key)) is None
    return short  # type: ignore[no-any-return]


def test_both_ways_answer_alike(desk: Desk, key: AccessKey) -> None:
    async def scene() -> tuple[Answer | None, Answer, list[bytes]]:
        async with served(desk) as (model, ways):
            short = await warmed(ways, key)
            request = invocation(
                key, b'{"a": 1}', **{"Content-Type": "x/y", "X-Amzn-SageMaker-Inference-Id": "7"}
            )
            return (
                await taken(short, request),
                await asyncio.to_thread(ways[1], request),
                model.asked,
            )

    quick, slow, asked = asyncio.run(scene())

    assert quick is not None
    assert (quick.status, quick.body) == (slow.status, slow.body) == (200, b'{"a": 1}')
    own = {"x-amzn-RequestId"}
    assert [p for p in quick.headers if p[0] not in own] == [
        p for p in slow.headers if p[0] not in own
    ]
    told = [set(each.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]) for each in asked[-2:]]
    assert told[0] - {b"accept-encoding: identity"} == told[1] - {b"accept-encoding: identity"} | {
        line for line in told[0] if line.startswith(b"host")
    }


def test_one_connection_carries_one_request_after_the_other(desk: Desk, key: AccessKey) -> None:
    async def scene() -> tuple[int, list[Answer | None]]:
        async with served(desk) as (model, ways):
            short = await warmed(ways, key)
            before = model.n_connections
            found = [await taken(short, invocation(key, b"[%d]" % n)) for n in range(20)]
            return model.n_connections - before, found

    n_connections, found = asyncio.run(scene())

    assert n_connections == 1
    assert [each and each.body for each in found] == [b"[%d]" % n for n in range(20)]


def test_an_answer_to_no_question_is_not_taken_for_one_to_the_next(
    desk: Desk, key: AccessKey
) -> None:
    def twice(n: int, body: bytes) -> bytes:
        return ok(n, body) + ok(n, b"[666]")

    async def scene() -> list[Answer | None]:
        async with served(desk, twice) as (_, ways):
            short = await warmed(ways, key)
            found = []
            for n in range(5):
                found.append(await taken(short, invocation(key, b"[%d]" % n)))
                await asyncio.sleep(0.01)
            return found

    found = asyncio.run(scene())

    assert [each and each.body for each in found] == [b"[%d]" % n for n in range(5)]


def test_requests_at_once_get_their_own_answers(desk: Desk, key: AccessKey) -> None:
    async def scene() -> list[Answer | None]:
        async with served(desk) as (_, ways):
            short = await warmed(ways, key)
            asked = [taken(short, invocation(key, b"[%d]" % n)) for n in range(200)]
            return await asyncio.gather(*asked)

    found = asyncio.run(scene())

    assert [each and each.body for each in found] == [b"[%d]" % n for n in range(200)]


def test_a_key_that_is_revoked_is_refused_from_the_next_request_on(
    desk: Desk, key: AccessKey
) -> None:
    async def scene() -> tuple[Answer | None, Answer | None, Answer]:
        async with served(desk) as (_, ways):
            short = await warmed(ways, key)
            before = await taken(short, invocation(key))
            revoke_key(desk.workspace.metadata, key.id)
            after = await taken(short, invocation(key))
            return before, after, await asyncio.to_thread(ways[1], invocation(key))

    before, after, refused = asyncio.run(scene())

    assert before is not None
    assert after is None
    assert refused.status == 403
    assert b"UnrecognizedClientException" in bytes(refused.body)  # type: ignore[arg-type]


def test_an_endpoint_that_changes_is_asked_as_it_is_then(desk: Desk, key: AccessKey) -> None:
    async def scene() -> list[Answer | None]:
        async with served(desk) as (_, ways):
            short = await warmed(ways, key)
            found = [await taken(short, invocation(key))]
            record = ENDPOINTS.get(desk, CALLER, "e")
            ENDPOINTS.change(desk, record, live=None)
            found.append(await taken(short, invocation(key)))
            found.append(await asyncio.to_thread(ways[1], invocation(key)))
            return found

    first, short, long = asyncio.run(scene())

    assert first is not None
    assert short is None
    assert long is not None
    assert b"is not in service" in bytes(long.body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"body": HeldBody(b"[2]")},
        {"target": "/endpoints/f/invocations"},
        {"target": "/endpoints/e/invocations?a=1"},
        {"method": "PUT"},
        {"headers": {}},
        {"body": HeldBody(b"x" * (1 << 20))},
        {"body": HeldBody(b"")},
    ],
)
def test_what_is_not_usual_or_not_right_goes_the_long_way(
    desk: Desk, key: AccessKey, changes: dict[str, Any]
) -> None:
    async def scene() -> tuple[Answer | None, Answer | None]:
        async with served(desk) as (_, ways):
            short = await warmed(ways, key)
            usual = invocation(key)
            from dataclasses import replace

            return await taken(short, usual), await taken(short, replace(usual, **changes))

    usual, other = asyncio.run(scene())

    assert usual is not None
    assert other is None


@pytest.mark.parametrize(
    "header",
    ["X-Amzn-SageMaker-Session-Id", "X-Amzn-SageMaker-Target-Model", "X-Amzn-SageMaker-New-Thing"],
)
def test_a_header_with_a_meaning_of_its_own_goes_the_long_way(
    desk: Desk, key: AccessKey, header: str
) -> None:
    async def scene() -> Answer | None:
        async with served(desk) as (_, ways):
            short = await warmed(ways, key)
            return await taken(short, invocation(key, **{header: "x"}))

    assert asyncio.run(scene()) is None


def test_an_endpoint_of_another_kind_goes_the_long_way(desk: Desk, key: AccessKey) -> None:
    async def scene() -> Answer | None:
        async with served(desk, containers=["one", "two"]) as (_, ways):
            short = await warmed(ways, key)
            return await taken(short, invocation(key))

    assert asyncio.run(scene()) is None


def test_a_connection_that_was_closed_while_idle_is_not_noticed(desk: Desk, key: AccessKey) -> None:
    def reply(n: int, body: bytes) -> bytes:
        # the third comes on the connection of the second, and is lost with it
        return b"" if n == 3 else ok(n, body)

    async def scene() -> list[Answer | None]:
        async with served(desk, reply) as (_, ways):
            short = await warmed(ways, key)
            return [await taken(short, invocation(key, b"[%d]" % n)) for n in range(3)]

    found = asyncio.run(scene())

    assert [each and each.body for each in found] == [b"[0]", b"[1]", b"[2]"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda n, body: ok(n, body) if n == 1 else b"", "did not answer"),
        (lambda n, body: ok(n, body) if n == 1 else b"SSH-2.0\r\n\r\n", "no HTTP"),
        (
            lambda n, body: (
                ok(n, body)
                if n == 1
                else b"HTTP/1.1 500 x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nboom"
            ),
            "boom",
        ),
    ],
)
def test_a_model_that_fails_is_told_of_as_on_the_long_way(
    desk: Desk, key: AccessKey, reply: Reply, said: str
) -> None:
    async def scene() -> list[Answer | None]:
        async with served(desk, reply) as (_, ways):
            short = await warmed(ways, key)
            return [await taken(short, invocation(key)) for _ in range(3)]

    found = asyncio.run(scene())

    for each in found:
        assert each is not None
        assert each.status == 424
        told = json.loads(bytes(each.body))  # type: ignore[arg-type]
        assert told["__type"] == "ModelError"
        assert said in told["OriginalMessage"]


def test_a_process_that_is_gone_is_a_model_that_does_not_answer(desk: Desk, key: AccessKey) -> None:
    async def scene() -> Answer | None:
        async with served(desk, port=1) as (_, ways):
            short = await warmed(ways, key)
            return await taken(short, invocation(key))

    found = asyncio.run(scene())

    assert found is not None
    assert found.status == 424
    assert b"did not answer" in bytes(found.body)  # type: ignore[arg-type]


def test_what_is_never_answered_is_given_up(
    desk: Desk, key: AccessKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_line, "_MOST_LINES", 2)

    def reply(n: int, body: bytes) -> bytes:
        return ok(n, body) if n == 1 else b"HTTP/1.1 100 Continue\r\n\r\n"

    async def scene() -> list[Answer | None]:
        async with served(desk, reply) as (_, ways):
            short = await warmed(ways, key)
            asked = [asyncio.create_task(taken(short, invocation(key))) for _ in range(4)]
            await asyncio.sleep(0.1)
            late = asyncio.get_running_loop().time() + 3600
            short.check_time(late)
            await asyncio.sleep(0.05)
            short.check_time(late)
            return list(await asyncio.gather(*asked))

    found = asyncio.run(scene())

    assert [each and each.status for each in found] == [424] * 4
    assert b"timed out" in bytes(found[0].body)  # type: ignore[arg-type, union-attr]
