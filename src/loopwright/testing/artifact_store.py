"""What every artifact store must do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.store import ArtifactStore

_ABSENT = "sha256:" + "0" * 64


class ArtifactStoreContract:
    """Tests of an `ArtifactStore`; derive from it and give a fixture `store`, empty."""

    def test_bytes_come_back_under_their_digest(self, store: ArtifactStore) -> None:
        digest = store.put_bytes(b"model")

        assert digest == "sha256:" + hashlib.sha256(b"model").hexdigest()
        assert store.get_bytes(digest) == b"model"

    def test_no_bytes_are_an_object_too(self, store: ArtifactStore) -> None:
        digest = store.put_bytes(b"")

        assert store.get_bytes(digest) == b""
        assert store.local_path(digest).read_bytes() == b""

    def test_storing_the_same_twice_gives_the_same(self, store: ArtifactStore) -> None:
        assert store.put_bytes(b"model") == store.put_bytes(b"model")

    # below and above the size that goes in one piece
    @pytest.mark.parametrize("n_bytes", [1_000, 17 << 20])
    def test_a_file_comes_back_under_its_digest(
        self, store: ArtifactStore, tmp_path: Path, n_bytes: int
    ) -> None:
        data = bytes(range(251)) * (n_bytes // 251)
        source = tmp_path / "source.bin"
        source.write_bytes(data)

        digest = store.put_file(source)

        assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
        assert store.put_file(source) == digest
        assert store.get_bytes(digest) == data
        assert store.local_path(digest).read_bytes() == data

    def test_a_local_path_is_read_only_and_stays(self, store: ArtifactStore) -> None:
        digest = store.put_bytes(b"model")

        path = store.local_path(digest)

        assert path.read_bytes() == b"model"
        assert path.stat().st_mode & 0o222 == 0
        assert store.local_path(digest) == path

    def test_has_tells_what_is_kept(self, store: ArtifactStore) -> None:
        digest = store.put_bytes(b"model")

        assert store.has(digest)
        assert not store.has(_ABSENT)

    def test_delete_forgets_and_may_be_repeated(self, store: ArtifactStore) -> None:
        digest = store.put_bytes(b"model")
        store.local_path(digest)

        store.delete(digest)
        store.delete(digest)

        assert not store.has(digest)
        with pytest.raises(NotFoundError):
            store.local_path(digest)

    def test_a_deleted_object_can_be_stored_again(self, store: ArtifactStore) -> None:
        store.delete(store.put_bytes(b"model"))

        assert store.get_bytes(store.put_bytes(b"model")) == b"model"

    def test_what_is_not_kept_is_not_found(self, store: ArtifactStore) -> None:
        with pytest.raises(NotFoundError, match=_ABSENT):
            store.get_bytes(_ABSENT)
        with pytest.raises(NotFoundError, match=_ABSENT):
            store.local_path(_ABSENT)

    @pytest.mark.parametrize(
        "digest", ["", "sha256:abc", "../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 64]
    )
    def test_what_is_no_digest_is_refused(self, store: ArtifactStore, digest: str) -> None:
        with pytest.raises(InvalidInputError, match="is not a digest"):
            store.get_bytes(digest)
        with pytest.raises(InvalidInputError, match="is not a digest"):
            store.local_path(digest)
        with pytest.raises(InvalidInputError, match="is not a digest"):
            store.has(digest)
        with pytest.raises(InvalidInputError, match="is not a digest"):
            store.delete(digest)

    def test_a_file_that_cannot_be_read_is_refused(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        with pytest.raises(InvalidInputError, match=r"nowhere\.bin"):
            store.put_file(tmp_path / "nowhere.bin")
        with pytest.raises(InvalidInputError, match="directory"):
            store.put_file(tmp_path)
