"""What the object store does when bytes are damaged, writers are killed or storage fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loopwright.core.digest import digest_bytes
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.store import ObjectArtifactStore, objects


@pytest.fixture
def store(tmp_path: Path) -> ObjectArtifactStore:
    return ObjectArtifactStore(tmp_path / "artifacts", tmp_path / "cache")


def path_of(digest: str, folder: Path) -> Path:
    hexadecimal = digest.removeprefix("sha256:")
    return folder / "objects" / hexadecimal[:2] / hexadecimal[2:]


def test_objects_lie_under_their_digest(store: ObjectArtifactStore, tmp_path: Path) -> None:
    digest = store.put_bytes(b"model")

    assert store.local_path(digest) == path_of(digest, tmp_path / "artifacts")


def test_a_damaged_object_is_never_returned(store: ObjectArtifactStore) -> None:
    digest = store.put_bytes(b"model")
    path = store.local_path(digest)
    path.chmod(0o644)
    path.write_bytes(b"mOdel")

    with pytest.raises(BackendError, match=rf"{digest}.*damaged.*Restore"):
        store.get_bytes(digest)
    with pytest.raises(BackendError, match=rf"{digest}.*damaged.*Restore"):
        store.local_path(digest)


def test_storing_again_heals_what_a_power_failure_cut_short(store: ObjectArtifactStore) -> None:
    digest = store.put_bytes(b"model")
    path = store.local_path(digest)
    path.chmod(0o644)
    path.write_bytes(b"")

    store.put_bytes(b"model")

    assert store.get_bytes(digest) == b"model"


def test_a_damaged_copy_of_a_remote_object_is_fetched_again(tmp_path: Path) -> None:
    store = ObjectArtifactStore("memory:///", tmp_path / "cache")
    digest = store.put_bytes(b"model")
    copy = store.local_path(digest)
    copy.chmod(0o644)
    copy.write_bytes(b"mOdel")

    assert store.local_path(digest).read_bytes() == b"model"


def test_a_file_that_changes_while_it_is_stored_is_refused(
    store: ObjectArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "growing.bin"
    source.write_bytes(bytes(17 << 20))
    before = digest_bytes(b"what it was a moment ago")
    monkeypatch.setattr(objects, "digest_file", lambda _: before)

    with pytest.raises(InvalidInputError, match=r"growing\.bin changed"):
        store.put_file(source)

    assert not store.has(before)
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []


def test_threads_may_store_the_same_object_at_once(
    store: ObjectArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "big.bin"
    source.write_bytes(bytes(17 << 20))
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(store.put_file(source))) for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(digests) == 4
    assert store.get_bytes(digests[0]) == source.read_bytes()


def test_a_killed_writer_leaves_no_object_and_its_rest_is_swept(
    store: ObjectArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "big.bin"
    source.write_bytes(bytes(40 << 20))
    digest = digest_bytes(source.read_bytes())
    folder = path_of(digest, tmp_path / "artifacts").parent
    script = (
        # the writer stops for ever in the middle of the file
        "import sys, time; from pathlib import Path; from loopwright.store import objects\n"
        "pieces = objects._pieces\n"
        "def slowly(path, digest):\n"
        "    for n, piece in enumerate(pieces(path, digest)):\n"
        "        yield piece\n"
        "        if n == 5: print('writing', flush=True); time.sleep(60)\n"
        "objects._pieces = slowly\n"
        "objects.ObjectArtifactStore(Path(sys.argv[1]), Path('.')).put_file(Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "artifacts"), str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)

    left = list(folder.glob("*#*"))
    assert left
    assert not store.has(digest)
    for path in left:
        os.utime(path, (time.time() - 2 * 86_400,) * 2)

    assert store.put_file(source) == digest

    assert store.get_bytes(digest) == source.read_bytes()
    assert [path.name for path in folder.iterdir()] == [digest.removeprefix("sha256:")[2:]]


def test_a_fresh_temporary_file_is_not_swept(store: ObjectArtifactStore, tmp_path: Path) -> None:
    path = path_of(digest_bytes(b"model"), tmp_path / "artifacts")
    path.parent.mkdir(parents=True)
    writing = path.with_name("another#1")
    writing.write_bytes(b"half")

    store.put_bytes(b"model")

    assert writing.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"/proc/nowhere cannot hold artifacts.*--home"):
        ObjectArtifactStore(Path("/proc/nowhere"), tmp_path)


@pytest.mark.parametrize("url", ["gopher://ann:hush-hush@host/x", "s3://"])
def test_a_url_of_an_unknown_kind_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is not the URL of an object store") as caught:
        ObjectArtifactStore(url, tmp_path)

    assert "hush-hush" not in str(caught.value)


def test_a_store_that_cannot_be_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "ann",
        "AWS_SECRET_ACCESS_KEY": "hush-hush",
    }.items():
        monkeypatch.setenv(name, value)
    store = ObjectArtifactStore("s3://bucket/loops", tmp_path)

    with pytest.raises(BackendError, match=r"s3://bucket/loops failed.*can be reached") as caught:
        store.put_bytes(b"model")

    assert caught.value.retryable
    assert "hush-hush" not in str(caught.value)
