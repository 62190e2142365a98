from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.loop.workspace import Workspace, checked_home, locked_loop


def test_what_killed_runs_left_is_swept_after_a_day(tmp_path: Path) -> None:
    now = datetime(2026, 5, 2, tzinfo=UTC)
    workspace = Workspace(
        home=tmp_path,
        metadata=None,  # type: ignore[arg-type]
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=FixedClock(now),
        user="ann",
    )
    scratch = workspace.scratch_folder()
    for name, hours in (("old", 30), ("fresh", 1)):
        (scratch / name).mkdir()
        (scratch / name / "rows").write_text("x")
        at = now.timestamp() - hours * 3_600
        os.utime(scratch / name, (at, at))

    workspace.sweep_scratch()

    assert [path.name for path in scratch.iterdir()] == ["fresh"]


def test_a_home_that_does_not_exist_yet_is_fine_and_not_made(tmp_path: Path) -> None:
    checked_home(tmp_path / "a" / "b")

    assert list(tmp_path.iterdir()) == []


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")

    with pytest.raises(InvalidInputError, match="is a file"):
        checked_home(tmp_path / "a" / "b")


def test_a_lock_is_given_back(tmp_path: Path) -> None:
    with (
        locked_loop(tmp_path, "houses"),
        pytest.raises(WrongStateError, match="another process"),
        locked_loop(tmp_path, "houses"),
    ):
        pass

    with locked_loop(tmp_path, "houses"), locked_loop(tmp_path, "other"):
        pass
