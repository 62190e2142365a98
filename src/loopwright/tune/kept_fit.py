"""Fits of an `auto` job kept on disk: a search that was killed, or is given more time, goes on."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.compute import Job, JobSpec
from loopwright.core.digest import digest_value
from loopwright.core.errors import LoopwrightError
from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
from loopwright.train.predictor_file import (
    ARRAYS_MEMBER,
    META_MEMBER,
    open_predictor,
    pack_predictor,
)
from loopwright.tune.configuration import Configuration
from loopwright.tune.fold_model import FoldModel
from loopwright.tune.job import AUTO_FILE, SEARCH_LABEL, AutoSpec

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_FORMAT = 1
# what the fits of one job may take on disk; beyond it they are not kept
_MOST_BYTES = 512 << 20
_TOLD = ("seconds", "best_iteration", "stopped_at", "answer_s")


@dataclass(slots=True, kw_only=True, eq=False)
class KeptFits:
    """Keeps the models of folds in a folder, and finds them again; any thread may call it.

    Parameters
    ----------
    search
        A digest of all that the fits depend on beside their configuration: rows, recipes, seed.
    own
        Where to keep them.
    earlier
        Where an earlier job of the same search kept its own. Those that its time ended are not
        taken from there: with more time they become better.
    """

    search: str
    own: Path
    earlier: Path | None = None
    n_found: int = 0
    _n_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.own.mkdir(parents=True, exist_ok=True)
        self._n_bytes = sum(path.stat().st_size for path in self.own.glob("*.npz"))

    def find(self, configuration: Configuration, fold: int, threads: int) -> FoldModel | None:
        """Return the model of a configuration on a fold, or None if it is not kept."""
        name = self._name(configuration, fold, threads)
        found = _read(self.own / name)
        if found is None and self.earlier is not None:
            found = _read(self.earlier / name)
            found = None if found is None or found.stopped_at is not None else found
        if found is not None:
            self.n_found += 1
        return found

    def keep(self, configuration: Configuration, fold: int, threads: int, model: FoldModel) -> None:
        """Keep the model of a configuration on a fold, if there is room for it."""
        try:
            data = _packed(model)
        except LoopwrightError:
            # a predictor that no file can hold is fitted again
            return
        with self._lock:
            if self._n_bytes + len(data) > _MOST_BYTES:
                return
            self._n_bytes += len(data)
        write_atomically(self.own / self._name(configuration, fold, threads), data)

    def _name(self, configuration: Configuration, fold: int, threads: int) -> str:
        about = configuration.to_json()
        # what it is called and where the idea came from change nothing
        del about["name"], about["origin"]
        digest = digest_value([_FORMAT, self.search, about, fold, threads])
        return f"{digest.rpartition(':')[2][:40]}.npz"


def _packed(model: FoldModel) -> bytes:
    files = pack_predictor(model.predictor)
    told = {name: getattr(model, name) for name in _TOLD}
    importance = model.importance
    buffer = io.BytesIO()
    np.savez(
        buffer,
        arrays=np.frombuffer(files[ARRAYS_MEMBER], dtype=np.uint8),
        meta=np.frombuffer(files[META_MEMBER], dtype=np.uint8),
        told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
        answers=model.answers,
        importance=np.empty(0) if importance is None else importance,
    )
    return buffer.getvalue()


def _read(path: Path) -> FoldModel | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            told: dict[str, Any] = json.loads(kept["told"].tobytes())
            importance = kept["importance"]
            return FoldModel(
                predictor=open_predictor(kept["arrays"].tobytes(), kept["meta"].tobytes()),
                answers=kept["answers"],
                importance=importance if len(importance) else None,
                **{name: told[name] for name in _TOLD},
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, LoopwrightError):
        # absent, of another release, or damaged: it is fitted again
        return None


def going_on(spec: JobSpec, jobs: Sequence[Job]) -> JobSpec:
    """Return the order with the fits of the latest earlier job of the same search, if any.

    The key stays: it is the same work, with a head start.

    Parameters
    ----------
    spec
        The order; see `auto_job`.
    jobs
        Those that were ordered before, the first one first.
    """
    search = spec.labels.get(SEARCH_LABEL)
    earlier = [
        job.checkpoints
        for job in jobs
        if search and job.labels.get(SEARCH_LABEL) == search and job.key != spec.key
    ]
    folder = next((each for each in reversed(earlier) if each and each.is_dir()), None)
    content = spec.files[AUTO_FILE]
    if folder is None or isinstance(content, Path):
        return spec
    order = msgspec.json.decode(content, type=AutoSpec)
    order = msgspec.structs.replace(order, earlier=str(folder))
    return replace(spec, files={**spec.files, AUTO_FILE: msgspec.json.encode(order)})
