from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.deploy import (
    ActualState,
    DesiredState,
    Endpoint,
    endpoint,
    read_actual,
    read_desired,
    token_digest,
    wait_until_serving,
    write_desired,
)
from loopwright.deploy.endpoint import is_too_old

DESIRED = DesiredState(name="prices", bundle="/models/1.tar.gz", version=1, generation=1)


def test_what_is_desired_is_read_back(tmp_path: Path) -> None:
    write_desired(tmp_path, DESIRED)

    assert read_desired(tmp_path) == DESIRED
    assert read_actual(tmp_path) is None


def test_writing_the_same_twice_changes_nothing(tmp_path: Path) -> None:
    write_desired(tmp_path, DESIRED)
    before = (tmp_path / "desired.json").stat()

    write_desired(tmp_path, DESIRED)

    after = (tmp_path / "desired.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_late_or_contradicting_writer_is_refused(tmp_path: Path) -> None:
    write_desired(tmp_path, msgspec.structs.replace(DESIRED, generation=2))

    for late in (DESIRED, msgspec.structs.replace(DESIRED, generation=2, version=5)):
        with pytest.raises(WrongStateError, match="comes too late"):
            write_desired(tmp_path, late)

    assert read_desired(tmp_path).version == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"name": "prices"}', '{"name": "a", "surprise": 1}', '{"name": 5}'],
)
def test_a_desired_file_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "desired.json").write_text(text)

    with pytest.raises(InvalidInputError, match="cannot be used"):
        read_desired(tmp_path)


def test_a_missing_desired_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"has no desired\.json"):
        read_desired(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "prices.example"])  # noqa: S104
def test_an_address_that_others_can_reach_needs_a_token(tmp_path: Path, host: str) -> None:
    open_door = msgspec.structs.replace(DESIRED, host=host)
    write_desired(tmp_path, open_door)
    with pytest.raises(InvalidInputError, match="without a token"):
        read_desired(tmp_path)

    locked = msgspec.structs.replace(open_door, token_digest=token_digest("t"), generation=2)
    (tmp_path / "desired.json").unlink()
    write_desired(tmp_path, locked)

    assert read_desired(tmp_path).host == host


def test_the_command_serves_the_folder(tmp_path: Path) -> None:
    command = Endpoint("prices", tmp_path).command

    assert command == (sys.executable, "-m", "loopwright.deploy.server", str(tmp_path))


def test_waiting_has_an_end(tmp_path: Path) -> None:
    write_desired(tmp_path, DESIRED)

    with pytest.raises(BackendError, match=r"did not answer within 0\.05 seconds") as caught:
        wait_until_serving(tmp_path, generation=1, timeout_s=0.05, is_alive=lambda: True)

    assert caught.value.retryable


def test_a_state_that_a_dead_process_left_is_not_believed(tmp_path: Path) -> None:
    # no process has a number this large
    state = ActualState(pid=2**22 + 1, host="127.0.0.1", port=1, version=1, generation=1)
    (tmp_path / "actual.json").write_bytes(msgspec.json.encode(state))

    with pytest.raises(BackendError, match="did not answer"):
        wait_until_serving(tmp_path, generation=1, timeout_s=0.05, is_alive=lambda: True)


def test_only_what_is_asked_for_is_written_so_that_an_older_process_can_read_it(
    tmp_path: Path,
) -> None:
    write_desired(tmp_path, DESIRED)

    written = msgspec.json.decode((tmp_path / "desired.json").read_bytes())
    assert set(written) == {"name", "generation", "bundle", "version"}
    assert read_desired(tmp_path) == DESIRED


def test_a_field_of_a_later_release_is_passed_over_if_it_is_optional_and_else_refused(
    tmp_path: Path,
) -> None:
    later = {**msgspec.to_builtins(DESIRED), "tint": "blue"}
    path = tmp_path / "desired.json"

    path.write_bytes(msgspec.json.encode({**later, "optional": ["tint"]}))
    assert read_desired(tmp_path) == DESIRED
    path.write_bytes(msgspec.json.encode(later))
    with pytest.raises(InvalidInputError, match="tint") as refused:
        read_desired(tmp_path)

    assert "the next run starts it anew" in refused.value.hint


def test_a_field_that_older_processes_may_pass_over_is_written_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_OPTIONAL", frozenset({"max_body_bytes"}))

    write_desired(tmp_path, msgspec.structs.replace(DESIRED, max_body_bytes=5))

    written = msgspec.json.decode((tmp_path / "desired.json").read_bytes())
    assert written["optional"] == ["max_body_bytes"]
    assert read_desired(tmp_path).max_body_bytes == 5


def refusing(folder: Path, *, generation: int | None = None) -> None:
    """Write what a running process says that was not able to carry a change out."""
    said = ActualState(
        pid=os.getpid(),
        host="127.0.0.1",
        port=1,
        version=1,
        generation=1,
        error="desired.json cannot be used: unknown field.",
        error_generation=generation,
    )
    (folder / "actual.json").write_bytes(msgspec.json.encode(said))


def test_a_process_of_an_older_release_is_started_anew_once(tmp_path: Path) -> None:
    write_desired(tmp_path, msgspec.structs.replace(DESIRED, generation=2))
    refusing(tmp_path)
    restarts: list[int] = []

    with pytest.raises(BackendError, match="unknown field"):
        wait_until_serving(
            tmp_path,
            generation=2,
            timeout_s=5,
            is_alive=lambda: True,
            restart=lambda: restarts.append(1),
        )

    assert restarts == [1]


def test_a_process_that_could_read_what_it_cannot_do_is_not_started_anew(tmp_path: Path) -> None:
    write_desired(tmp_path, msgspec.structs.replace(DESIRED, generation=2))
    refusing(tmp_path, generation=2)
    assert not is_too_old(tmp_path)

    refusing(tmp_path)
    assert is_too_old(tmp_path)
    os.utime(tmp_path / "actual.json", (1, 1))  # it speaks of what was asked for before
    assert not is_too_old(tmp_path)
