"""The compatible API as a part of a process: listens, answers, puts results of jobs into S3."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.core.files import read_json, write_json_atomically
from loopwright.deploy.address import LOOPBACK, bound_socket, is_loopback
from loopwright.loop.workspace import Workspace
from loopwright.sagemaker import registry
from loopwright.sagemaker.chore import Rounds
from loopwright.sagemaker.desk import ACCOUNT, REGION, Desk
from loopwright.sagemaker.dispatch import Dispatcher
from loopwright.sagemaker.front import Front, guarded
from loopwright.sagemaker.key import find_key, key_of
from loopwright.sagemaker.message import Answer, Request
from loopwright.sagemaker.remembered import Remembered
from loopwright.sagemaker.s3.connection import Connection
from loopwright.sagemaker.s3.external import ExternalObjects
from loopwright.sagemaker.s3.objects import Objects
from loopwright.sagemaker.s3.place import StorePlace
from loopwright.sagemaker.s3.store import ObjectStore
from loopwright.sagemaker.short_way import ShortWay

_log = logging.getLogger(__name__)
PORT = 8333
_TURN_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlan:
    """What an operator asks of the compatible API.

    Parameters
    ----------
    host, port
        Where it listens; port 0 for a free one.
    region, account
        What requests and ARNs are taken to be of when they name none.
    others
        Whether an address that other machines can reach is meant.
    s3
        The S3-compatible store in which the buckets lie; None for the home.
    """

    host: str = LOOPBACK
    port: int = PORT
    region: str = REGION
    account: str = ACCOUNT
    others: bool = field(default=False)
    s3: StorePlace | None = None


def found_address(home: Path) -> str | None:
    """Return where the server of a home listens, if one does."""
    try:
        told = read_json(home / "sagemaker" / "address.json")
    except ValueError:
        return None
    if told is None or not Path(f"/proc/{told['pid']}").exists():
        return None
    return str(told["url"])


def _address(host: str, port: int) -> str:
    """Return where clients on this machine reach it."""
    own = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 it is replaced
    return f"http://[{own}]:{port}" if ":" in own else f"http://{own}:{port}"


def _objects(workspace: Workspace, plan: GatewayPlan) -> Objects:
    """Return where the buckets are; a store that refuses our keys is told now."""
    if plan.s3 is None:
        return ObjectStore(workspace.home / "s3", workspace.clock)
    connection = Connection(plan.s3)
    if find_key(workspace.metadata, connection.access_key) is not None:
        raise InvalidInputError(
            "The keys for the S3 store are keys of this server itself.",
            hint="Start the server in a shell in which `loopwright env` was not evaluated.",
            field="s3",
        )
    connection.check()
    folder = workspace.home / "sagemaker" / "objects"
    return ExternalObjects(connection, folder, workspace.clock, account=plan.account)


def _hold_of(home: Path) -> IO[str]:
    """Return a file that keeps other servers off the home, until it is closed or the process ends.

    Each would carry off what the other is still writing, captured requests say.
    """
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "sagemaker.lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise WrongStateError(
            f"Another server answers for {str(home)!r}.",
            hint="`loopwright env` finds it. Stop it first, or give another --home.",
            kind="server",
            name=str(home),
        ) from error
    return file


class Gateway:
    """The compatible API of a home.

    Parameters
    ----------
    workspace
        The home.
    plan
        Where it listens.
    listener
        A socket that is bound already, in place of one of its own.
    beside
        Answers requests on the same port that are not for AWS, and returns None for those that are.
    """

    def __init__(
        self,
        workspace: Workspace,
        plan: GatewayPlan,
        *,
        listener: socket.socket | None = None,
        beside: Callable[[Request], Answer | None] | None = None,
    ) -> None:
        if not is_loopback(plan.host) and not plan.others:
            raise InvalidInputError(
                f"Other machines could reach {plan.host}, and who has a key runs code here.",
                hint="Listen on 127.0.0.1, or say that others may ask, behind a proxy with TLS.",
                field="host",
                value=plan.host,
            )
        self._plan = plan
        self._hold = _hold_of(workspace.home)
        self._listener = listener or bound_socket(plan.host, plan.port)
        self._beside = beside
        self.port = int(self._listener.getsockname()[1])
        key = key_of(workspace.metadata, user=workspace.user, purpose="jobs", account=plan.account)
        self.desk = Desk(
            workspace=workspace,
            objects=_objects(workspace, plan),
            url=_address(plan.host, self.port),
            job_key=(key.id, key.secret),
        )
        self._memory = Remembered(workspace.metadata)
        self._dispatch = Dispatcher(self.desk, self._memory, region=plan.region)
        registry.load()

    def _answer(self, request: Request) -> Answer:
        other = self._beside(request) if self._beside else None
        return self._dispatch(request) if other is None else other

    async def run(self, ended: asyncio.Event, tell: Callable[[str], object]) -> None:
        """Serve until the event is set."""
        front = Front(guarded(self._answer))
        loop = asyncio.get_running_loop()
        short = ShortWay(self.desk, self._memory, aside=front.threads.submit)
        front.shortcut = short.take
        http = await loop.create_server(front.connection, sock=self._listener)
        stopped = threading.Event()
        settling = threading.Thread(target=self._settle, args=(stopped,), daemon=True)
        settling.start()
        place = self.desk.workspace.home / "sagemaker" / "address.json"
        write_json_atomically(place, {"url": self.desk.url, "pid": os.getpid()})
        tell(self.desk.url)
        while not ended.is_set():
            front.check_time()
            short.check_time(loop.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), timeout=5.0)
        http.close()
        place.unlink(missing_ok=True)
        stopped.set()
        await asyncio.to_thread(settling.join, 10.0)
        short.close()
        front.close()
        self._memory.close()
        self._hold.close()

    def _settle(self, stopped: threading.Event) -> None:
        from loopwright.sagemaker.endpoint import resume

        try:
            resume(self.desk)
        except Exception:
            _log.exception("Endpoints of an earlier server could not be taken up again.")
        self.desk.objects.sweep()
        rounds = Rounds(self.desk)
        while not stopped.wait(_TURN_S):
            rounds.turn()
