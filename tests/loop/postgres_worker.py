"""The worker of `feedback_worker.py` over PostgreSQL: killed at writes, taken up again by another.

`postgres_worker.py URL EVERY` kills a child at every EVERY-th statement that writes, lets another one
go on, and prints the state that each of them came to. All use one database, emptied between.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import sqlalchemy as sa

from loopwright.core.clock import FixedClock
from loopwright.store import SqlMetadataStore

sys.path.insert(0, str(Path(__file__).parent))
from feedback_worker import (
    NOW,
    FaultyStore,
    contents,
    first_model,
    work,
    workspace_over,
)


def in_child(act: Callable[[SqlMetadataStore], None], url: str) -> bool:
    """Do something with a store of its own in a child; return whether it was killed."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    try:
        store = SqlMetadataStore(url, FixedClock(NOW))
        act(store)
        store.close()
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def emptied(url: str) -> None:
    """Remove all rows, and leave a loop whose first model is live."""

    def act(store: SqlMetadataStore) -> None:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            names = [n for n in sa.inspect(connection).get_table_names() if "version" not in n]
            connection.execute(sa.text(f"TRUNCATE {', '.join(names)}"))
        engine.dispose()
        first_model(store)

    in_child(act, url)


def ended(url: str, at: int, *, after: bool) -> tuple[bool, dict[str, object]]:
    """Kill a worker at a write, let another go on; return whether it was, and what is left."""
    emptied(url)

    def killed(store: SqlMetadataStore) -> None:
        end = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        work(workspace_over(FaultyStore(store, at, after=after, end=end), Path()))

    was_killed = in_child(killed, url)
    if was_killed:
        in_child(lambda store: work(workspace_over(store, Path())) and None, url)
    read, write = os.pipe()

    def tell(store: SqlMetadataStore) -> None:
        with os.fdopen(write, "wb") as file:
            file.write(msgspec.json.encode(contents(store)))

    in_child(tell, url)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        return was_killed, msgspec.json.decode(file.read())


def main(url: str, every: int) -> None:
    ends = []
    for after in (False, True):
        for at in range(1, 400, every):
            was_killed, end = ended(url, at, after=after)
            ends.append({"killed": was_killed, "end": end})
            if not was_killed:
                break
    sys.stdout.write(msgspec.json.encode(ends).decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
