"""A real MariaDB, where it is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

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
