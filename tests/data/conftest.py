"""A real MariaDB and a real MongoDB, where they are installed, and what stands in for the clouds."""

from __future__ import annotations

import logging
import shutil
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

PASSWORD = "hunter2secret"


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """Return the URL of a MariaDB server that lives as long as the test session."""
    import pymysql

    server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if not server or not install:
        pytest.skip("MariaDB is not installed on this machine")
    with (
        tempfile.TemporaryDirectory(prefix="loopwright-maria-") as folder,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        port = free.getsockname()[1]
        free.close()
        common = ["--no-defaults", "--user=root", f"--datadir={folder}/data"]
        setup = [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(setup, check=True, capture_output=True)
        options = [f"--socket={folder}/s", "--bind-address=127.0.0.1", f"--port={port}"]
        process = subprocess.Popen(
            [server, *common, *options, "--innodb-buffer-pool-size=32M"], stderr=subprocess.DEVNULL
        )
        try:
            for _ in range(300):
                try:
                    connection = pymysql.connect(unix_socket=f"{folder}/s", user="root")
                    break
                except pymysql.err.OperationalError:
                    time.sleep(0.05)
            with connection, connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE shop")
                cursor.execute(f"CREATE USER ann@localhost IDENTIFIED BY '{PASSWORD}'")
                cursor.execute("GRANT ALL ON shop.* TO ann@localhost")
            yield f"mariadb://ann:{PASSWORD}@127.0.0.1:{port}/shop"
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def dynamodb_endpoint() -> Iterator[str]:
    """Return the address of a server that speaks DynamoDB: moto, over HTTP, in a thread.

    It is no DynamoDB, but checks requests and expressions as DynamoDB does, and pages its answers.
    """
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give credentials that only a stand-in takes, and let nothing ask the machine for others."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDLOOPWRIGHT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture(scope="session")
def mongod_url() -> Iterator[str]:
    """Return the URL of a MongoDB server that lives as long as the test session."""
    import pymongo

    program = shutil.which("mongod")
    if not program:
        pytest.skip("MongoDB is not installed on this machine")
    with (
        tempfile.TemporaryDirectory(prefix="loopwright-mongo-") as folder,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        port = free.getsockname()[1]
        free.close()
        options = ["--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1"]
        process = subprocess.Popen(
            [program, *options, "--unixSocketPrefix", folder], stdout=subprocess.DEVNULL
        )
        url = f"mongodb://127.0.0.1:{port}"
        try:
            with pymongo.MongoClient(url, serverSelectionTimeoutMS=30_000) as client:
                client.admin.command("ping")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


class MongoWire:
    """A server of MongoDB's wire protocol: the real driver talks to it over a socket.

    It decodes messages with the driver's own BSON, answers `find` and `getMore` in batches, lists
    collections and knows one user. What a filter matches, and how ids sort, mongomock says.
    """

    def __init__(self) -> None:
        import mongomock

        self.store = mongomock.MongoClient(tz_aware=True)
        self.requests: list[dict[str, Any]] = []
        self.fails: dict[str, dict[str, Any]] = {}
        self.dies_in = ""
        self._cursors: dict[int, tuple[str, list[Any]]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the reply to a command; None where the connection is to end."""
        verb = next(iter(request))
        self.requests.append(request)
        if verb == self.dies_in:
            return None
        if verb in self.fails:
            return {"ok": 0.0, **self.fails[verb]}
        return getattr(self, f"_{verb.lower()}", lambda _: {"ok": 1.0})(request)

    def _hello(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "ok": 1.0,
            "helloOk": True,
            "isWritablePrimary": True,
            "ismaster": True,
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48 << 20,
            "maxWriteBatchSize": 100_000,
            "minWireVersion": 0,
            "maxWireVersion": 21,
        }

    _ismaster = _hello

    def _saslstart(self, request: dict[str, Any]) -> dict[str, Any]:
        if bytes(request["payload"]).split(b"\0")[1:] == [b"ann", PASSWORD.encode()]:
            return {"ok": 1.0, "conversationId": 1, "done": True, "payload": b""}
        return {"ok": 0.0, "code": 18, "errmsg": "Authentication failed."}

    def _find(self, request: dict[str, Any]) -> dict[str, Any]:
        found = self.store[request["$db"]][request["find"]].find(
            request.get("filter"), request.get("projection"), sort=[*request["sort"].items()]
        )
        return self._page(f"{request['$db']}.{request['find']}", [*found], request, "firstBatch")

    def _getmore(self, request: dict[str, Any]) -> dict[str, Any]:
        space, rest = self._cursors.pop(request["getMore"])
        return self._page(space, rest, request, "nextBatch")

    def _page(
        self, space: str, documents: list[Any], request: dict[str, Any], key: str
    ) -> dict[str, Any]:
        size = request.get("batchSize", 101)
        number = len(self.requests) if len(documents) > size else 0
        if number:
            self._cursors[number] = space, documents[size:]
        return {"ok": 1.0, "cursor": {"id": number, "ns": space, key: documents[:size]}}

    def _listcollections(self, request: dict[str, Any]) -> dict[str, Any]:
        names = self.store[request["$db"]].list_collection_names()
        found = [{"name": name, "type": "collection"} for name in names]
        return self._page(f"{request['$db']}.$cmd", found, {"batchSize": 1_000}, "firstBatch")


class _MongoConnection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        import bson

        options = bson.CodecOptions(tz_aware=True)
        while head := self.rfile.read(16):
            size, number, _, code = struct.unpack("<iiii", head)
            body = self.rfile.read(size - 16)
            # a first greeting may come in the old way: flags, name, skip, limit, document
            start = 5 if code == 2013 else body.index(b"\0", 4) + 9
            reply = self.server.wire.answer(bson.decode(body[start:], options))
            if reply is None:
                return
            lead = struct.pack("<iB", 0, 0) if code == 2013 else struct.pack("<iqii", 8, 0, 0, 1)
            data = lead + bson.encode(reply)
            kind = 2013 if code == 2013 else 1
            self.wfile.write(struct.pack("<iiii", len(data) + 16, 1, number, kind) + data)


class _MongoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    wire: MongoWire


@pytest.fixture
def mongo_wire() -> Iterator[tuple[str, MongoWire]]:
    """Return the URL of a stand-in for MongoDB, and the stand-in."""
    with _MongoServer(("127.0.0.1", 0), _MongoConnection) as server:
        server.wire = MongoWire()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"mongodb://127.0.0.1:{server.server_address[1]}", server.wire
        server.shutdown()
        thread.join(timeout=5)
