"""The server's process: one thread looks after the loops, one event loop answers questions."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.core.files import write_json_atomically
from loopwright.deploy.address import LOOPBACK, bound_socket, is_loopback, token_digest
from loopwright.deploy.http import Connection
from loopwright.deploy.server import loop_factory
from loopwright.loop.workspace import Workspace, checked_home
from loopwright.sagemaker.s3.place import StorePlace
from loopwright.server.child import ProcessStarter, Starter, end_children
from loopwright.server.doorway import has_compatible_api, open_gateway
from loopwright.server.gauge import gauges, metrics_text
from loopwright.server.keeper import TURN_LIMIT_S, Keeper
from loopwright.server.site import Answers, ServerSite

_log = logging.getLogger(__name__)

_TURN_S = 1.0
_GAUGES_EVERY = 5
_STALE_S = 60.0
_LEAST_TOKEN = 16
_LEAST_TURN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """What an operator asks of a server.

    Parameters
    ----------
    host, port
        Where it listens; port 0 for a free one. An address that other machines can reach needs a
        token.
    token
        What every request must bring then, at least 16 characters.
    most_at_once
        How many loops are attended at once.
    grace_s
        How long processes at work may go on when the server is told to end.
    turn_limit_s
        How long a turn at a loop may last, at least a minute; its process is ended then.
    region, account
        What requests of the SageMaker-compatible API are taken to be of when they name none.
    s3
        The S3-compatible store in which its buckets lie; None for the home.
    """

    host: str = LOOPBACK
    port: int = 8700
    token: str | None = field(default=None, repr=False)
    most_at_once: int = 2
    grace_s: float = 20.0
    turn_limit_s: float = TURN_LIMIT_S
    region: str = "us-east-1"
    account: str = "123456789012"
    s3: StorePlace | None = None

    def checked(self) -> ServerPlan:
        """Return the plan if it can be carried out.

        Raises
        ------
        InvalidInputError
            If other machines could ask without a token, or a number is out of range.
        """
        if self.token is None and not is_loopback(self.host):
            raise InvalidInputError(
                f"Other machines could reach {self.host}, and there is no token.",
                hint="Set LOOPWRIGHT_SERVER_TOKEN to a long random text, or listen on 127.0.0.1.",
                field="token",
            )
        if self.token is not None and len(self.token) < _LEAST_TOKEN:
            raise InvalidInputError(
                f"The token has {len(self.token)} characters; {_LEAST_TOKEN} are the least.",
                hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
                field="token",
            )
        if not 1 <= self.most_at_once <= 64:
            raise InvalidInputError(
                f"{self.most_at_once} loops cannot be attended at once.",
                hint="Give 1 to 64; each is a process that may train models.",
                field="most_at_once",
                value=self.most_at_once,
            )
        if not self.turn_limit_s >= _LEAST_TURN_S:
            raise InvalidInputError(
                f"A turn at a loop cannot be ended after {self.turn_limit_s:g} seconds.",
                hint="Give at least '1 minute'; a round trains within its turn.",
                field="turn_limit",
                value=self.turn_limit_s,
            )
        return self


def serve(
    workspace: Workspace,
    plan: ServerPlan,
    *,
    environ: Mapping[str, str],
    tell: Callable[[str], object],
    start: Starter | None = None,
) -> None:
    """Look after the loops of a home until SIGTERM or SIGINT.

    Parameters
    ----------
    environ
        The environment of the processes that attend loops.
    tell
        Is given the address, once the server listens.
    start
        Starts these processes; the real ones when absent.

    Raises
    ------
    InvalidInputError
        If the plan or the address cannot be used.
    WrongStateError
        If another server looks after this home.
    """
    plan.checked()
    checked_home(workspace.home)
    with _only_server_of(workspace.home):
        server = _Server(workspace, plan, start or ProcessStarter(workspace.home, environ))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(server.run(tell))


class _Server:
    def __init__(self, workspace: Workspace, plan: ServerPlan, start: Starter) -> None:
        self._workspace = workspace
        self._plan = plan
        self._clock = SystemClock()
        self._keeper = Keeper(
            workspace,
            start,
            clock=self._clock,
            most_at_once=plan.most_at_once,
            turn_limit_s=plan.turn_limit_s,
        )
        self._answers = Answers()
        self._answers.is_well = self._is_well
        self._stopped = threading.Event()
        self._hurried = threading.Event()

    async def run(self, tell: Callable[[str], object]) -> None:
        """Serve until told to end."""
        plan, loop, ended = self._plan, asyncio.get_running_loop(), asyncio.Event()
        site = ServerSite(
            self._answers, token_digest=token_digest(plan.token) if plan.token else None
        )
        with bound_socket(plan.host, plan.port) as listener:
            port = listener.getsockname()[1]
            http, gateway = None, self._gateway(listener, site, ended)
            if gateway is None:
                http = await loop.create_server(lambda: Connection(site), sock=listener)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._told_to_end, ended)
            keeping = threading.Thread(target=self._keep, name="keeper", daemon=True)
            keeping.start()
            self._put_address(plan.host, port)
            tell(f"http://{f'[{plan.host}]' if ':' in plan.host else plan.host}:{port}")
            while not ended.is_set():
                site.check_time()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), timeout=1.0)
            if http is not None:
                http.close()
            if gateway is not None:
                await gateway
            await asyncio.to_thread(self._end, keeping)

    def _gateway(
        self, listener: socket.socket, site: ServerSite, ended: asyncio.Event
    ) -> asyncio.Task[None] | None:
        """Answer clients of AWS on the same port, where what that needs is installed."""
        if not has_compatible_api():
            return None
        from loopwright.sagemaker.serve import GatewayPlan

        plan = GatewayPlan(
            host=self._plan.host,
            region=self._plan.region,
            account=self._plan.account,
            s3=self._plan.s3,
            # who listens there has set a token, and every request for AWS is signed
            others=self._plan.token is not None,
        )
        gateway = open_gateway(self._workspace, plan, listener=listener, site=site)
        task = asyncio.create_task(gateway.run(ended, lambda _: None))
        task.add_done_callback(lambda _: ended.set())
        return task

    def _told_to_end(self, ended: asyncio.Event) -> None:
        if ended.is_set():
            self._hurried.set()  # the second time there is no grace
        ended.set()
        self._stopped.set()

    def _keep(self) -> None:
        """Look after the loops, whatever happens, until told to end."""
        n_turns = 0
        while not self._stopped.is_set():
            try:
                self._keeper.turn()
                if n_turns % _GAUGES_EVERY == 0:
                    self._measure()
                n_turns += 1
            except Exception:
                # a store that is locked or full now may be well in a moment
                _log.exception("The loops could not be looked after; trying again.")
                self._stopped.wait(5.0)
            self._stopped.wait(_TURN_S)

    def _measure(self) -> None:
        found = gauges(self._workspace, self._keeper.attended)
        self._answers.status = {
            "home": str(self._workspace.home),
            "at": self._clock.now().isoformat(),
            "loops": [each.to_json() for each in found],
        }
        self._answers.metrics = metrics_text(found, turned_at=self._keeper.turned_at)

    def _is_well(self) -> bool:
        turned = self._keeper.turned_at
        return turned is not None and (self._clock.now() - turned).total_seconds() < _STALE_S

    def _end(self, keeping: threading.Thread) -> None:
        keeping.join(timeout=30.0)
        children = self._keeper.running()
        if children:
            _log.info("Waiting for %d loops that are at work.", len(children))
        n_late = end_children(children, grace_s=self._plan.grace_s, wait=self._hurried)
        if n_late:
            _log.info("Ended %d processes; the next server goes on where they were.", n_late)
        self._address_path.unlink(missing_ok=True)

    def _put_address(self, host: str, port: int) -> None:
        value = {"host": host, "port": port, "pid": os.getpid()}
        write_json_atomically(self._address_path, value)

    @property
    def _address_path(self) -> Path:
        return self._workspace.home / "server" / "address.json"


@contextlib.contextmanager
def _only_server_of(home: Path) -> Iterator[None]:
    """Hold the home, so that two servers do not share it; the lock goes when the process does."""
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WrongStateError(
                f"Another server looks after {str(home)!r}.",
                hint="Stop it first, or give another --home.",
                kind="server",
                name=str(home),
            ) from error
        yield
