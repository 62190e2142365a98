from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.core.digest import canonical_json, digest_bytes, digest_file, digest_value
from loopwright.core.files import read_json, write_atomically, write_json_atomically


def test_a_failed_write_leaves_the_old_content_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_json_atomically(path, {"a": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")

    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_missing_file_reads_as_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None


def test_equal_values_have_equal_digests_whatever_the_order_of_their_keys() -> None:
    assert digest_value({"a": 1, "b": [1.5, None]}) == digest_value({"b": [1.5, None], "a": 1})
    assert digest_value({"a": 1}) != digest_value({"a": 2})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 3_000_000)

    assert digest_file(path) == digest_bytes(b"x" * 3_000_000)
