"""The best finished model so far: an `auto` job always has one whole model that can be served.

The search offers a model now and then, written whole into a folder beside `out/`. When the time is
up, whoever watches the clock delivers the latest one: nothing is left to do then but to rename it.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loopwright.core.digest import digest_file
from loopwright.core.files import write_atomically
from loopwright.train import TrainingResult
from loopwright.train.job import OUT_FOLDER, RESULT_FILE
from loopwright.train.job_folder import digests
from loopwright.tune.job import REMARK_FILE

STANDBY_FOLDER = ".standby"


def read_remark(folder: Path) -> str:
    """Return why the job in a folder ended with less than it would have had; empty if it did not."""
    try:
        return (folder / OUT_FOLDER / REMARK_FILE).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ready:
    """A model that is written whole."""

    folder: Path
    result: TrainingResult
    digests: Mapping[str, str]
    remark: str
    is_quick: bool


@dataclass(slots=True, kw_only=True, eq=False)
class Standby:
    """Holds the best finished model so far; one thread offers, another may deliver at any moment.

    Parameters
    ----------
    folder
        Of the job.
    started
        When the job began, on the clock of `time.perf_counter`.
    names
        The files that went in.

    `writing_s` is the longest that a small file has taken to write.
    """

    folder: Path
    started: float
    names: Sequence[str] = ()
    inputs: Mapping[str, str] = field(default_factory=dict, init=False)
    writing_s: float = field(default=0.0, init=False)
    _ready: _Ready | None = None
    _n_offered: int = 0
    _is_delivered: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # what a job that was killed left behind
        shutil.rmtree(self.folder / STANDBY_FOLDER, ignore_errors=True)

    @property
    def has_model(self) -> bool:
        """Whether there is a model to deliver."""
        return self._ready is not None

    @property
    def has_searched(self) -> bool:
        """Whether the model to deliver is one of the search, not only the quick one."""
        return self._ready is not None and not self._ready.is_quick

    def read_inputs(self) -> Mapping[str, str]:
        """Return the digests of the files that went in, from then on at hand."""
        self.inputs = {name: digest_file(self.folder / name) for name in self.names}
        return self.inputs

    def offer(
        self,
        write: Callable[[Path], TrainingResult],
        *,
        remark: str = "",
        is_quick: bool = False,
    ) -> None:
        """Replace the model to deliver by another one.

        Parameters
        ----------
        write
            Writes all files of the model into a folder and returns what the job tells about it.
        remark
            What to print if this is the model that is delivered.
        is_quick
            Whether it is the model for when no fit of the search ends in time.
        """
        place = self.folder / STANDBY_FOLDER / str(self._n_offered)
        self._n_offered += 1
        (place / OUT_FOLDER).mkdir(parents=True)
        result = write(place / OUT_FOLDER)
        began = time.perf_counter()
        write_atomically(place / RESULT_FILE, msgspec.json.encode(result))
        self.writing_s = max(self.writing_s, time.perf_counter() - began)
        ready = _Ready(
            folder=place,
            result=result,
            digests=digests(place, ()),
            remark=remark,
            is_quick=is_quick,
        )
        with self._lock:
            is_late, old = self._is_delivered, self._ready
            if not is_late:
                self._ready = ready
        if is_late:
            shutil.rmtree(place, ignore_errors=True)
            with contextlib.suppress(OSError):  # what is being delivered still lies there
                (self.folder / STANDBY_FOLDER).rmdir()
        elif old is not None:
            shutil.rmtree(old.folder, ignore_errors=True)

    def deliver(self, *, why: str = "") -> TrainingResult:
        """Put the model into `out/`, once and for all, and return what the job tells about it.

        Parameters
        ----------
        why
            What kept a better model from being finished; none if nothing did.

        Raises
        ------
        LookupError
            If no model was offered.
        """
        with self._lock:
            if self._ready is None:
                raise LookupError("no model was offered")
            self._is_delivered = True
            ready = self._ready
        remarks = [text for text in (why, ready.remark) if text]
        for text in remarks:
            print(text, flush=True)
        out, source = self.folder / OUT_FOLDER, ready.folder / OUT_FOLDER
        for path in sorted(source.rglob("*")):
            target = out / path.relative_to(source)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                path.replace(target)
        result = msgspec.structs.replace(
            ready.result,
            total_s=time.perf_counter() - self.started,
            peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            digests={**(self.inputs or self.read_inputs()), **ready.digests},
        )
        if remarks:
            write_atomically(out / REMARK_FILE, "; ".join(remarks).encode())
        # last: a folder with a result is a folder with a whole model
        write_atomically(out / RESULT_FILE, msgspec.json.encode(result))
        shutil.rmtree(self.folder / STANDBY_FOLDER, ignore_errors=True)
        return result
