"""What is said to the door of a cluster, and what is made of its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loopwright.compute.ray_cluster import RayCluster, RaySaid, checked_address
from loopwright.compute.ray_start import RayNodeStart, create_token, locked_environment
from loopwright.core.errors import BackendError, InvalidInputError

# as Ray 2.60 gives them, without what is not read
SUMMARY = {
    "data": {
        "summary": [
            {
                "raylet": {
                    "nodeId": "b",
                    "nodeManagerAddress": "10.0.0.2",
                    "state": "ALIVE",
                    "resourcesTotal": {"CPU": 4.0, "memory": 4294967296.0, "GPU": 1.0},
                }
            },
            {
                "raylet": {
                    "nodeId": "a",
                    "nodeManagerAddress": "10.0.0.1",
                    "state": "ALIVE",
                    "resourcesTotal": {"node:10.0.0.1": 1.0},
                }
            },
            {"raylet": {"nodeId": "c", "nodeManagerAddress": "10.0.0.3", "state": "DEAD"}},
        ]
    }
}
STATUS = {
    "data": {
        "clusterStatus": {
            "loadMetricsReport": {
                "usageByNode": {"b": {"CPU": [1.5, 4.0], "memory": [1048576.0, 4294967296.0]}}
            }
        }
    }
}


class Door(ThreadingHTTPServer):
    """Answers as a cluster's dashboard does, and remembers what it was asked."""

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            "/api/version": (200, {"version": "4"}),
            "/nodes?view=summary": (200, SUMMARY),
            "/api/cluster_status": (200, STATUS),
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Door

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        self.server.asked.append((self.command, self.path, body))
        status, value = self.server.answers.get(self.path, (404, "there is none"))
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            status, value = 401, "Unauthorized"
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 the names are given

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    create_token(tmp_path / "token")
    return tmp_path / "token"


@pytest.fixture
def door(token_file: Path) -> Iterator[Door]:
    with Door(token_file.read_text()) as door:
        thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield door
        door.shutdown()
        thread.join()


@pytest.fixture
def client(door: Door, token_file: Path) -> RayCluster:
    return RayCluster(door.address, token_file)


def test_living_nodes_are_told_with_what_they_have_and_what_is_in_use(client: RayCluster) -> None:
    first, second = client.nodes()

    assert (first.id, first.cpus, first.memory_mib, first.n_gpus) == ("a", 0.0, 0, 0)
    assert (second.id, second.ip, second.cpus, second.memory_mib) == ("b", "10.0.0.2", 4.0, 4096)
    assert (second.n_gpus, second.used_cpus, second.used_memory_mib) == (1, 1.5, 1)


def test_a_job_is_given_with_what_it_asks_for_and_where(door: Door, client: RayCluster) -> None:
    door.answers["/api/jobs/"] = (200, {"submission_id": "j"})

    client.submit("j", "exec true", node_id="b", cpus=0.5, memory_mib=2, n_gpus=1)

    assert door.asked == [
        (
            "POST",
            "/api/jobs/",
            {
                "entrypoint": "exec true",
                "submission_id": "j",
                "entrypoint_num_cpus": 0.5,
                "entrypoint_memory": 2 << 20,
                "entrypoint_num_gpus": 1,
                "entrypoint_label_selector": {"ray.io/node-id": "b"},
            },
        )
    ]


def test_a_job_that_ray_has_already_is_left_as_it_is(door: Door, client: RayCluster) -> None:
    door.answers["/api/jobs/"] = (500, "ValueError: Job with submission_id j already exists. Use")

    client.submit("j", "exec true")


def test_what_ray_says_of_a_job_is_told_and_of_none_nothing(door: Door, client: RayCluster) -> None:
    door.answers["/api/jobs/j%2F1"] = (200, {"status": "FAILED", "message": "x", "error_type": "E"})

    assert client.find("j/1") == RaySaid(status="FAILED", message="x", error_type="E")
    assert client.find("other") is None


def test_an_open_door_is_refused(door: Door, client: RayCluster) -> None:
    door.token = ""

    with pytest.raises(InvalidInputError, match="answers without a token"):
        client.check_door()


def test_a_wrong_token_is_told_without_telling_it(door: Door, client: RayCluster) -> None:
    right, door.token = door.token, "another"

    with pytest.raises(BackendError, match="refuses the token in") as caught:
        client.check_door()

    assert right not in str(caught.value)
    assert not caught.value.retryable


def test_the_token_is_not_sent_where_a_redirect_leads(door: Door, client: RayCluster) -> None:
    door.answers["/api/version"] = (302, f"{door.address}/elsewhere")

    with pytest.raises(BackendError, match="answered 302"):
        client.check_door()

    assert [path for _, path, _ in door.asked] == ["/api/cluster_status", "/api/version"]


def test_something_else_at_the_address_is_no_cluster(door: Door, client: RayCluster) -> None:
    door.answers["/api/version"] = (200, "<html>hello</html>")

    with pytest.raises(BackendError, match=r"no Ray cluster: '<html>hello</html>'"):
        client.check_door()


def test_a_cluster_that_is_away_may_be_back_later(token_file: Path) -> None:
    with pytest.raises(BackendError, match="cannot be reached") as caught:
        RayCluster("http://127.0.0.1:9", token_file).nodes()

    assert caught.value.retryable


@pytest.mark.parametrize(
    "address",
    ["", "ray://head:10001", "127.0.0.1:8265", "http://", "http://a:b@head", "http://h/?q=1"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInputError, match="LOOPWRIGHT_RAY_ADDRESS") as caught:
        checked_address(address)

    assert "a:b" not in str(caught.value)


def test_a_token_that_others_may_read_is_refused(token_file: Path) -> None:
    token_file.chmod(0o640)

    with pytest.raises(InvalidInputError, match=r"can be read by others \(mode 640\)"):
        RayCluster("http://127.0.0.1:8265", token_file)


def test_a_token_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="No such file"):
        RayCluster("http://127.0.0.1:8265", tmp_path / "token")
    (tmp_path / "token").touch(mode=0o600)
    with pytest.raises(InvalidInputError, match="holds no token"):
        RayCluster("http://127.0.0.1:8265", tmp_path / "token")


def test_a_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    create_token(tmp_path / "new" / "token")
    made = (tmp_path / "new" / "token").read_text()
    create_token(tmp_path / "new" / "token")

    assert len(made) == 64
    assert (tmp_path / "new" / "token").read_text() == made
    assert (tmp_path / "new" / "token").stat().st_mode & 0o777 == 0o600


def test_every_process_of_a_node_is_told_to_ask_for_the_token(token_file: Path) -> None:
    around = {"PATH": "/bin", "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"}

    environment = locked_environment(token_file, around)

    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(token_file)
    assert "RAY_AUTH_TOKEN" not in environment
    assert token_file.read_text() not in str(environment)


def test_a_head_listens_on_this_machine_unless_told_otherwise(token_file: Path) -> None:
    head = RayNodeStart(token_file=token_file)
    worker = RayNodeStart(token_file=token_file, head="10.0.0.1:6379", host="10.0.0.2")

    assert "--dashboard-host=127.0.0.1" in head.arguments()
    assert "--node-ip-address=127.0.0.1" in head.arguments()
    assert worker.arguments() == [
        "start",
        "--address=10.0.0.1:6379",
        "--node-ip-address=10.0.0.2",
    ]
