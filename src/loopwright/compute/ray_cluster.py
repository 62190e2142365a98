"""A Ray cluster as it is spoken to: its HTTP door, its nodes, and the jobs it has been given."""

from __future__ import annotations

import json
import stat
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from loopwright.core.errors import BackendError, InvalidInputError

_TIMEOUT_S = 30.0
_MOST_ANSWER_BYTES = 64 << 20
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """A living node: what it has to give, and what is promised to whoever uses the cluster."""

    id: str
    ip: str
    cpus: float
    memory_mib: int
    n_gpus: int = 0
    used_cpus: float = 0.0
    used_memory_mib: int = 0
    used_gpus: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySaid:
    """What Ray says of one of its jobs: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED, and why."""

    status: str
    message: str = ""
    error_type: str = ""

    @property
    def has_ended(self) -> bool:
        """Tell whether Ray will do no more about it."""
        return self.status in _ENDED


class RayCluster:
    """A client of a cluster's HTTP door, from the standard library alone.

    It needs neither Ray nor a place in the cluster's network beyond that door, so a laptop can use
    a cluster of another Python version. Every request carries the token; the token is read from
    its file for each, shows in no message, and is sent nowhere else.

    Parameters
    ----------
    address
        `http://HOST:PORT` of the dashboard, as Ray prints it when it starts.
    token_file
        The file with the cluster's token, readable by its owner alone.

    Raises
    ------
    InvalidInputError
        If the address is none, or others may read the token.
    """

    def __init__(self, address: str, token_file: Path) -> None:
        self.address = checked_address(address)
        self._token_file = token_file
        read_token(token_file)
        # a redirect would send the token elsewhere, and a proxy of the environment is not meant
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def __repr__(self) -> str:
        return f"RayCluster({self.address!r})"

    def check_door(self) -> None:
        """Check that the cluster lets us in, and nobody who has no token.

        Raises
        ------
        BackendError
            If it cannot be reached or refuses the token.
        InvalidInputError
            If it answers whoever asks: anyone who reaches it could run programs there.
        """
        if self._answer("GET", "/api/cluster_status", with_token=False)[0] not in (401, 403):
            raise InvalidInputError(
                f"The Ray cluster at {self.address} answers without a token: whoever reaches it "
                "can run programs on its nodes.",
                hint="Start every node with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, as "
                "`python -m loopwright.compute.ray_start` does.",
                field="LOOPWRIGHT_RAY_ADDRESS",
                value=self.address,
            )
        self._json("GET", "/api/version")

    def nodes(self) -> list[RayNode]:
        """Return the nodes that live, in the order of their addresses."""
        summary = self._json("GET", "/nodes?view=summary")["data"]["summary"]
        status = self._json("GET", "/api/cluster_status")["data"]["clusterStatus"]
        used = ((status or {}).get("loadMetricsReport") or {}).get("usageByNode") or {}
        living = [each["raylet"] for each in summary if each["raylet"].get("state") == "ALIVE"]
        nodes = [_node(raylet, used.get(raylet["nodeId"], {})) for raylet in living]
        return sorted(nodes, key=lambda node: (node.ip, node.id))

    def submit(
        self,
        run_id: str,
        entrypoint: str,
        *,
        node_id: str | None = None,
        cpus: float = 0.0,
        memory_mib: int = 0,
        n_gpus: int = 0,
    ) -> None:
        """Give Ray a job, on a node of our choice; one it has already is left as it is."""
        order: dict[str, Any] = {
            "entrypoint": entrypoint,
            "submission_id": run_id,
            "entrypoint_num_cpus": cpus,
            "entrypoint_memory": memory_mib << 20,
            "entrypoint_num_gpus": n_gpus,
        }
        if node_id:
            order["entrypoint_label_selector"] = {"ray.io/node-id": node_id}
        status, body = self._answer("POST", "/api/jobs/", body=order)
        if status != 200 and b"already exists" not in body:
            raise self._refusal(status, body)

    def find(self, run_id: str) -> RaySaid | None:
        """Return what Ray says of a job, or None if it knows of none."""
        status, body = self._answer("GET", f"/api/jobs/{quote(run_id, safe='')}")
        if status == 404:
            return None
        if status != 200:
            raise self._refusal(status, body)
        found = self._decoded(body)
        return RaySaid(
            status=found["status"],
            message=found.get("message") or "",
            error_type=found.get("error_type") or "",
        )

    def stop(self, run_id: str) -> None:
        """Ask Ray to end a job it is running; see `forget_pending` for one that waits."""
        status, body = self._answer("POST", f"/api/jobs/{quote(run_id, safe='')}/stop", body={})
        if status not in (200, 404):
            raise self._refusal(status, body)

    def delete(self, run_id: str) -> None:
        """Let Ray forget a job that has ended; nothing happens to any other."""
        self._answer("DELETE", f"/api/jobs/{quote(run_id, safe='')}")

    def _json(self, method: str, path: str) -> dict[str, Any]:
        status, body = self._answer(method, path)
        if status != 200:
            raise self._refusal(status, body)
        return self._decoded(body)

    def _decoded(self, body: bytes) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except ValueError as cause:
            raise self._unknown(body) from cause
        if not isinstance(value, dict):
            raise self._unknown(body)
        return value

    def _unknown(self, body: bytes) -> BackendError:
        return BackendError(
            f"What answers at {self.address} is no Ray cluster: {_excerpt(body)!r}.",
            hint="Check LOOPWRIGHT_RAY_ADDRESS: it is the dashboard's, as Ray prints it.",
        )

    def _answer(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        with_token: bool = True,
    ) -> tuple[int, bytes]:
        """Return the status and the body of an answer, whatever the status is."""
        headers = {"Content-Type": "application/json"}
        if with_token:
            headers["Authorization"] = f"Bearer {read_token(self._token_file)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 the address was checked to be http(s)
            self.address + path, data=data, headers=headers, method=method
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.status, answer.read(_MOST_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(_MOST_ANSWER_BYTES)
        except (OSError, ValueError) as cause:
            reason = getattr(cause, "reason", cause)
            raise BackendError(
                f"The Ray cluster at {self.address} cannot be reached: {reason}.",
                hint="Check that its head node runs and that LOOPWRIGHT_RAY_ADDRESS is right.",
                retryable=True,
                address=self.address,
            ) from cause

    def _refusal(self, status: int, body: bytes) -> BackendError:
        if status in (401, 403):
            return BackendError(
                f"The Ray cluster at {self.address} refuses the token in {self._token_file}.",
                hint="Use the token that its head node was started with.",
                address=self.address,
            )
        return BackendError(
            f"The Ray cluster at {self.address} answered {status}: {_excerpt(body)}",
            hint="Look at the log of its dashboard.",
            retryable=status >= 500,
            address=self.address,
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def checked_address(address: str) -> str:
    """Return the address of a cluster without a slash at its end.

    Raises
    ------
    InvalidInputError
        If it is no `http://` or `https://` address of a host, or has a password in it.
    """
    parts = urlsplit(address)
    usable = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    if not usable or parts.query or parts.fragment:
        shown = address if parts.username is None else f"{parts.scheme}://...@{parts.hostname}"
        raise InvalidInputError(
            f"LOOPWRIGHT_RAY_ADDRESS is {shown!r}.",
            hint="Give the address of the dashboard, such as http://127.0.0.1:8265.",
            field="LOOPWRIGHT_RAY_ADDRESS",
            value=shown,
        )
    return address.rstrip("/")


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises
    ------
    InvalidInputError
        If there is none, or others than its owner may read it.
    """
    try:
        mode = path.stat().st_mode
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidInputError(
            f"The token of the Ray cluster cannot be read from {path}: "
            f"{getattr(cause, 'strerror', None) or 'it is no text'}.",
            hint="Put the token of the cluster there, or name its file in "
            "LOOPWRIGHT_RAY_TOKEN_FILE.",
            field="LOOPWRIGHT_RAY_TOKEN_FILE",
            value=str(path),
        ) from cause
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidInputError(
            f"The token of the Ray cluster in {path} can be read by others "
            f"(mode {stat.S_IMODE(mode):o}).",
            hint=f"chmod 600 {path}",
            field="LOOPWRIGHT_RAY_TOKEN_FILE",
            value=str(path),
        )
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInputError(
            f"The file {path} holds no token.",
            hint="It is one line of letters and digits.",
            field="LOOPWRIGHT_RAY_TOKEN_FILE",
            value=str(path),
        )
    return token


def _node(raylet: Mapping[str, Any], used: Mapping[str, Any]) -> RayNode:
    total = raylet.get("resourcesTotal") or {}

    def promised(name: str) -> float:
        return float(used.get(name, (0.0, 0.0))[0])

    return RayNode(
        id=raylet["nodeId"],
        ip=raylet["nodeManagerAddress"],
        cpus=float(total.get("CPU", 0.0)),
        memory_mib=int(total.get("memory", 0.0)) >> 20,
        n_gpus=int(total.get("GPU", 0.0)),
        used_cpus=promised("CPU"),
        used_memory_mib=int(promised("memory")) >> 20,
        used_gpus=promised("GPU"),
    )


def _excerpt(body: bytes) -> str:
    lines = body.decode(errors="replace").strip().splitlines()
    return " ".join(lines[-1:])[:300]
