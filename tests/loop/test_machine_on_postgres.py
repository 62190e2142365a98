"""The feedback loop's state machine over a real PostgreSQL: raced, killed, and taken up again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from loopwright.core.clock import FixedClock
from loopwright.loop.feedback_state import Looked
from loopwright.loop.feedback_store import pending_effects, recorded_events, tell
from loopwright.store import SqlMetadataStore

from .feedback_worker import DRIFT, NAME, NOW, contents, first_model, work, workspace_over

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres_url: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} STRATEGY = file_copy"))
    engine.dispose()
    return sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)


def test_two_workers_that_race_begin_one_round_on_postgres(url: str) -> None:
    first_model(SqlMetadataStore(url, FixedClock(NOW)))
    began: list[int] = []
    failed: list[BaseException] = []
    gate = threading.Barrier(3)

    def race() -> None:
        store = SqlMetadataStore(url, FixedClock(NOW))
        gate.wait()
        try:
            for hour in range(10):
                state = tell(store, NAME, Looked(seen=DRIFT), now=NOW + timedelta(hours=hour))
                began.append(state.round)
        except BaseException as error:
            failed.append(error)
        finally:
            store.close()

    workers = [threading.Thread(target=race) for _ in range(3)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()

    store = SqlMetadataStore(url, FixedClock(NOW))
    assert failed == []
    assert set(began) == {2}
    assert [effect.number for _, effect in pending_effects(store, NAME)] == [2]
    numbers = [each.n for each in recorded_events(store, NAME)]
    assert numbers == list(range(1, len(numbers) + 1))
    store.close()


def test_a_loop_comes_to_the_same_end_as_on_sqlite(url: str, tmp_path: Path) -> None:
    ends = []
    for address in (url, f"sqlite:///{tmp_path / 'loopwright.db'}"):
        store = SqlMetadataStore(address, FixedClock(NOW))
        first_model(store)
        work(workspace_over(store, tmp_path))
        ends.append(contents(store))
        store.close()

    assert ends[0] == ends[1]


@pytest.mark.slow
def test_kill_9_at_every_fifth_write_and_a_resume_give_the_same_end_on_postgres(url: str) -> None:
    script = Path(__file__).parent / "postgres_worker.py"
    done = subprocess.run(
        [sys.executable, str(script), url, "5"],
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    ends = json.loads(done.stdout)

    wanted = ends[-1]["end"]
    assert not ends[-1]["killed"]
    assert sum(each["killed"] for each in ends) >= 8
    assert all(each["end"] == wanted for each in ends)
