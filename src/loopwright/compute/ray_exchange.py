"""What a job's submitter and its node hand each other: files by digest, orders, logs, results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loopwright.core.digest import digest_file
from loopwright.core.errors import BackendError, InvalidInputError, LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.store.objects import ObjectArtifactStore, open_objects

if TYPE_CHECKING:
    import obstore
else:
    obstore = LazyModule("obstore")

_CHUNK_BYTES = 1 << 20


class RayExchange:
    """A place that the submitter and every node of the cluster can read and write.

    It lies in the artifact store, under `runs/JOB/` what all runs of a job need and under
    `runs/JOB/NUMBER/` what one run has and leaves: `order.json`, `env.json`, `stop.json`,
    `start.json`, `log/...`, `out/...` and, last of all, `exit.json`. A run writes under its own
    number only, so one that was given up and lives on somewhere cannot touch the results of the
    next. Files that are artifacts already, such as the rows that ten jobs train on, are named by
    their digest and not sent. All of it is gone once the job has ended and its results are fetched.

    Parameters
    ----------
    location
        A folder that has the same path everywhere, or a URL of an object store.
    cache
        Where this side keeps what it has fetched.
    """

    def __init__(self, location: str | Path, cache: Path) -> None:
        _refuse_password(str(location))
        self.artifacts = ObjectArtifactStore(location, cache)
        self._store = open_objects(location)
        text = str(location)
        self.is_folder = "://" not in text or text.startswith("file://")
        self._folder = Path(text.removeprefix("file://")) if self.is_folder else None

    def put(self, scope: str, name: str, value: Mapping[str, Any]) -> None:
        """Leave a value for the other side, whole or not at all."""
        self.put_bytes(scope, name, json.dumps(value).encode())

    def put_bytes(self, scope: str, name: str, data: bytes) -> None:
        """Leave some bytes for the other side, whole or not at all."""
        key = _key(scope, name)
        with _failures(key):
            self._make_folder(key)
            obstore.put(self._store, key, data)

    def find(self, scope: str, name: str) -> dict[str, Any] | None:
        """Return a value that the other side has left, or None."""
        data = self.find_bytes(scope, name)
        if data is None:
            return None
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise BackendError(f"The object {_key(scope, name)} of a job is damaged.")
        return value

    def find_bytes(self, scope: str, name: str) -> bytes | None:
        """Return some bytes that the other side has left, or None."""
        key = _key(scope, name)
        with _failures(key):
            if self._folder:
                # a tenth of the time, for what is asked many times a second
                with suppress(FileNotFoundError):
                    return (self._folder / key).read_bytes()
                return None
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError:
                return None

    def list_(self, scope: str, folder: str) -> list[str]:
        """Return the names of what lies in a folder of a run, sorted."""
        prefix = _key(scope, folder) + "/"
        with _failures(prefix):
            found = [meta["path"] for page in obstore.list(self._store, prefix) for meta in page]
        return sorted(path.removeprefix(_key(scope, "")) for path in found)

    def delete(self, scope: str, name: str) -> None:
        """Remove an object of a run; nothing happens if there is none."""
        with _failures(_key(scope, name)), suppress(FileNotFoundError):
            obstore.delete(self._store, _key(scope, name))

    def delete_all(self, scope: str) -> None:
        """Remove all objects below a scope; files that are also artifacts stay."""
        prefix = _key(scope, "")
        with _failures(prefix):
            if self._folder:
                shutil.rmtree(self._folder / prefix, ignore_errors=True)
                return
            for page in obstore.list(self._store, prefix):
                for meta in page:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._store, meta["path"])

    def put_tree(
        self,
        scope: str,
        prefix: str,
        folder: Path,
        *,
        is_left_out: Callable[[str], bool] = lambda _: False,
    ) -> dict[str, dict[str, Any]]:
        """Leave every file below a folder for the other side; return what `get_tree` needs.

        What the artifact store has already is not sent again. A link is sent as what it points
        to, inside the folder only.

        Parameters
        ----------
        is_left_out
            Tells of what lies directly in the folder whether it stays here.
        """
        found = {}
        whole = folder.resolve()
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if is_left_out(name.parts[0]) or not path.is_file():
                continue
            if path.resolve().is_relative_to(whole):
                found[name.as_posix()] = self._put_file(scope, f"{prefix}/{name.as_posix()}", path)
        return found

    def _put_file(self, scope: str, name: str, path: Path) -> dict[str, Any]:
        mode, digest = path.stat().st_mode & 0o777, digest_file(path)
        is_artifact = self.artifacts.has(digest)
        if not is_artifact:
            key = _key(scope, name)
            self._make_folder(key)
            with _failures(key):
                obstore.put(self._store, key, path)
        return {"digest": digest, "mode": mode, "is_artifact": is_artifact}

    def get_tree(
        self, scope: str, prefix: str, files: Mapping[str, Mapping[str, Any]], folder: Path
    ) -> None:
        """Put what `put_tree` has left below a folder, each file checked by its digest."""
        for name, about in files.items():
            target = folder / checked_name(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            mode = int(about["mode"]) & 0o777
            if about["is_artifact"]:
                self._get_artifact(about["digest"], target, mode=mode)
            else:
                self._get_object(_key(scope, f"{prefix}/{name}"), about["digest"], target)
                target.chmod(mode)

    def _get_artifact(self, digest: str, target: Path, *, mode: int) -> None:
        source = self.artifacts.local_path(digest)
        if mode & 0o222 == 0:
            # what nobody may change is shared
            with suppress(OSError):
                os.link(source, target)
                return
        shutil.copyfile(source, target)
        target.chmod(mode)

    def _get_object(self, key: str, digest: str, target: Path) -> None:
        sha = hashlib.sha256()
        with _failures(key), target.open("wb") as file:
            for piece in obstore.get(self._store, key).stream(_CHUNK_BYTES):
                file.write(piece)
                sha.update(piece)
        if f"sha256:{sha.hexdigest()}" != digest:
            target.unlink()
            raise BackendError(
                f"The file {key} of a job was damaged on its way: it has another digest.",
                hint="Check the disk or the object store it lies on, and run the job again.",
                key=key,
            )

    def _make_folder(self, key: str) -> None:
        if self._folder:
            # others must not read what a job's environment or its results may hold
            (self._folder / key).parent.mkdir(parents=True, exist_ok=True, mode=0o700)


def _refuse_password(location: str) -> None:
    if "://" in location and urlsplit(location).username is not None:
        raise InvalidInputError(
            "The place where jobs are exchanged with the cluster has a user or a password in it.",
            hint="Every node is told the place. Let the nodes have credentials of their own.",
            field="LOOPWRIGHT_RAY_EXCHANGE",
            value="",
        )


def checked_name(name: str) -> str:
    """Return a relative name of a file that stays inside its folder.

    Raises
    ------
    InvalidInputError
        If it would lead elsewhere.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise InvalidInputError(
            f"The other side of a job sends a file called {name!r}.",
            hint="It must lie inside the job's folder.",
            field="files",
            value=name,
        )
    return name


def _key(scope: str, name: str) -> str:
    return f"runs/{checked_name(scope)}/{name}"


@contextmanager
def _failures(key: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except LoopwrightError:
        raise
    except FileNotFoundError:
        raise
    except (OSError, BaseError) as cause:
        first = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise BackendError(
            f"The exchange of jobs with the cluster failed at {key}: {first}",
            hint="Check LOOPWRIGHT_RAY_EXCHANGE: a folder or an object store that this machine "
            "and every node can write to.",
            retryable=True,
            key=key,
        ) from cause
