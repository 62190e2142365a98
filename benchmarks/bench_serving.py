"""Rows over HTTP: loopwright with and without its kernel, other tools, and the limits.

The limits are a bare echo on the same HTTP stack and uvicorn that says hello. Every server has one
worker, and loopwright captures what it answers, as in production. Five tables: `load` asks as fast
as answers come (`wrk`, which has to be installed), `rate` at a fixed rate, `start` tells seconds until
the first answer and memory, `ways` what capture, variants and a shadow cost, `steps` where the time of
a row goes. Processor time of a request is the figure to trust where other programs run; it is that of
all processes of a server.

    python benchmarks/bench_serving.py --models lightgbm --connections 16 --seconds 1
    python benchmarks/bench_serving.py --rounds 3 --out FILE --peers fastapi=PYTHON bentoml=PYTHON ...

With `--out` a run goes on where an earlier one was ended; `--rounds 0` prints what the file holds. Peers
whose Python, or whose library, is not there are left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving_load import RefusedError, closed_loop, fixed_rate
from serving_models import SETTINGS, packed, read_table
from serving_peer import BODIES
from serving_server import WAYS, Server, echo, endpoint, fitted, peer, until_replaced
from serving_steps import step_times
from serving_tables import print_tables

TABLES = ("load", "rate", "start", "ways", "steps")
SIZES = {"1 row": 1, "100 rows": 100}
_RATE_LINES = 32


@dataclass(slots=True)
class Results:
    """What has been measured, also in a file."""

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.rows = [json.loads(line) for line in self.path.read_text().splitlines()]

    def has(self, **key: Any) -> bool:
        """Return whether something has been measured."""
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, **row: Any) -> None:
        """Keep what was measured."""
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(_short(value) for value in row.values()), flush=True)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured, and what with."""

    options: argparse.Namespace
    results: Results
    folder: Path
    rows: Sequence[dict[str, Any]]

    def body(self, size: str, form: str | None) -> bytes:
        """Return a request of so many rows; a single one comes as it is where no tool wraps it."""
        rows = self.rows[: SIZES[size]]
        if form is None:
            return json.dumps(rows[0] if len(rows) == 1 else rows).encode()
        return (form % json.dumps(rows)).encode()

    def lacks(self, table: str, **key: Any) -> Iterator[int]:
        """Yield the rounds in which something is still to be measured."""
        if table in self.options.tables:
            for number in range(self.options.rounds):
                if not self.results.has(table=table, **key, round=number):
                    yield number


def measure(plan: Plan, server: Server, form: str | None, key: dict[str, Any]) -> None:
    """Ask a server in one cell of a table."""
    body = plan.body(key.get("size", "1 row"), form)
    seconds = plan.options.seconds if form is None else max(3.0, plan.options.seconds)
    before = server.spent_s()
    try:
        if key["table"] == "rate":
            load = fixed_rate(
                server.port, body, connections=_RATE_LINES, rate=plan.options.rate, seconds=seconds
            )
        else:
            load = closed_loop(server.port, body, connections=key["connections"], seconds=seconds)
    except (RefusedError, OSError) as error:
        plan.results.add(**key, failed=str(error)[:200])
        return
    spent = [b - a for a, b in zip(before, server.spent_s(), strict=True)]
    own_us, system_us = (1e6 * each / max(1, load.n_requests) for each in spent)
    plan.results.add(**key, **asdict(load), own_us=own_us, system_us=system_us)


def ask(plan: Plan, servers: dict[str, Server], model: str, form: str | None = None) -> None:
    """Measure servers in turn, so that what disturbs one disturbs the others."""
    cells: list[tuple[str, dict[str, Any]]] = [
        ("load", {"model": model, "size": size, "connections": connections})
        for size in plan.options.sizes
        for connections in plan.options.connections
    ]
    cells.append(("rate", {"model": model}))
    for number in range(plan.options.rounds):
        for table, cell in cells:
            for name, server in servers.items():
                if number in plan.lacks(table, server=name, **cell):
                    key = {"table": table, "server": name, **cell, "round": number}
                    measure(plan, server, form, key)


def is_done(plan: Plan, name: str, model: str) -> bool:
    """Return whether nothing is left to ask of a server about a model."""
    cells = (
        plan.lacks("load", model=model, size=size, connections=connections, server=name)
        for size in plan.options.sizes
        for connections in plan.options.connections
    )
    others = (plan.lacks(table, model=model, server=name) for table in ("rate", "start"))
    return not any([*rounds] for rounds in (*cells, *others))


def note_start(plan: Plan, name: str, model: str, server: Server, number: int) -> None:
    """Keep how long a server took to answer, and what memory it takes after some load."""
    largest, together = server.memory_mib()
    plan.results.add(
        table="start",
        server=name,
        model=model,
        round=number,
        ready_s=server.ready_s,
        largest_mib=largest,
        together_mib=together,
        n_processes=len(server.processes()),
    )


def ask_peers(plan: Plan, model: str, table: Path) -> None:
    """Measure other tools, one after the other."""
    for each in plan.options.peers:
        name, python = each.split("=", 1)
        where = shutil.which(python)
        if where is None:
            print(f"{name} is left out: there is no {python}", flush=True)
            continue
        if is_done(plan, name, model):
            continue
        folder = plan.folder / f"peer-{name}-{model}"
        if name in BODIES and not fitted(where, model, table, folder):
            print(f"{name} is left out for {model}: it lacks the library", flush=True)
            continue
        form = BODIES.get(name)
        with peer(name, where, folder, plan.body("1 row", form)) as server:
            if server is None:
                log = (folder / f"{name}.log").read_text()
                print(f"{name} did not answer:\n{log[-2000:]}", flush=True)
                continue
            ask(plan, {name: server}, model, form)
            if [*plan.lacks("start", server=name, model=model)]:
                note_start(plan, name, model, server, 0)


def ask_own(plan: Plan, model: str, bundle: Path) -> None:
    """Measure loopwright with and without the kernel, and the echo, side by side."""
    names = ("loopwright", "loopwright, no kernel", "echo")
    if all(is_done(plan, name, model) for name in names):
        return
    opened: dict[str, Callable[[], AbstractContextManager[Server]]] = {
        names[0]: lambda: endpoint(bundle, plan.folder / f"{model}-kernel"),
        names[1]: lambda: endpoint(bundle, plan.folder / f"{model}-python", kernel=False),
        names[2]: echo,
    }
    with ExitStack() as stack:
        servers = {name: stack.enter_context(each()) for name, each in opened.items()}
        ask(plan, servers, model)
        for name, server in servers.items():
            for number in plan.lacks("start", server=name, model=model):
                if number == 0:
                    note_start(plan, name, model, server, number)
    for number in plan.lacks("start", server="loopwright", model=model):
        with opened["loopwright"]() as server:
            note_start(plan, "loopwright", model, server, number)


def ask_workers(plan: Plan, model: str, bundle: Path) -> None:
    """Measure what several workers take, and how soon another has taken the place of a killed one."""
    for workers in (2, 4):
        name = f"loopwright, {workers} workers"
        for number in plan.lacks("start", server=name, model=model):
            folder = plan.folder / f"{model}-{workers}-{number}"
            with endpoint(bundle, folder, workers=workers) as server:
                largest, together = server.memory_mib()
                plan.results.add(
                    table="start",
                    server=name,
                    model=model,
                    round=number,
                    ready_s=server.ready_s,
                    largest_mib=largest,
                    together_mib=together,
                    n_processes=len(server.processes()),
                    again_s=until_replaced(folder),
                )


def ask_ways(plan: Plan, model: str, bundle: Path) -> None:
    """Measure the ways to serve a model beside one another."""
    if all(not [*plan.lacks("ways", model=model, server=way)] for way in WAYS):
        return
    with ExitStack() as stack:
        servers = {
            way: stack.enter_context(
                endpoint(bundle, plan.folder / f"{model}-way-{at}", **settings)
            )
            for at, (way, settings) in enumerate(WAYS.items())
        }
        for number in range(plan.options.rounds):
            for way, server in servers.items():
                if number in plan.lacks("ways", model=model, server=way):
                    key = {"table": "ways", "server": way, "model": model, "connections": 16}
                    measure(plan, server, None, {**key, "round": number})


def ask_steps(plan: Plan, model: str, bundle: Path) -> None:
    """Measure the steps of a row in this process."""
    for number in plan.lacks("steps", model=model):
        for step, microseconds in step_times(bundle, plan.rows).items():
            plan.results.add(
                table="steps", model=model, round=number, step=step, own_us=microseconds
            )


def main() -> None:
    """Measure what is asked for and print the tables."""
    options = _options()
    if shutil.which("wrk") is None and {"load", "ways"} & {*options.tables} and options.rounds:
        raise SystemExit("install wrk first (on Debian: apt install wrk)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = Results(options.out or folder / "results.jsonl")
        if options.rounds:
            table = read_table()
            table.write_parquet(folder / "table.parquet")
            rows = json.loads(table.drop("Class").head(100).write_json())
            plan = Plan(options=options, results=results, folder=folder, rows=rows)
            for model in options.models:
                bundle = folder / f"{model}.tar.gz"
                bundle.write_bytes(packed(model, table))
                ask_own(plan, model, bundle)
                if model in options.peer_models:
                    ask_peers(plan, model, folder / "table.parquet")
                ask_workers(plan, model, bundle)
                ask_ways(plan, model, bundle)
                ask_steps(plan, model, bundle)
        print_tables(results.rows, rate=options.rate)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in a cell")
    parser.add_argument("--rounds", type=int, default=1, help="medians are over so many")
    parser.add_argument("--models", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second of `rate`")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--out", type=Path, help="where results are kept, to go on later")
    parser.add_argument(
        "--peers",
        nargs="*",
        default=[],
        metavar="NAME=PYTHON",
        help=f"{', '.join(BODIES)}, or uvicorn for its hello",
    )
    parser.add_argument("--peer-models", nargs="+", default=["lightgbm"], choices=list(SETTINGS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
