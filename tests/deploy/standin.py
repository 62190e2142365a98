"""A real, small model for the endpoint's tests, and the endpoint's process around it.

`python standin.py FOLDER` serves a folder whose bundles are JSON files written by `write_bundle`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.server import serve
from loopwright.deploy.serving import Timing
from loopwright.deploy.supervisor import Seat
from loopwright.prepare.signature import Field, Signature

SIGNATURE = Signature(
    fields=(
        Field(name="area", kind="number", example=120.0),
        Field(name="city", kind="category", nullable=True, example="Bonn"),
    )
)


class SlopeModel:
    """Prices an area: `slope` times `area`; fails for the city of Boom, gives NaN for Nowhere."""

    name = "slope"
    classes = None
    signature = SIGNATURE
    extras: Mapping[str, Mapping[str, Any]] = {"double": {"type": "number"}}

    def __init__(self, *, slope: float, golden: float, delay_s: float, task: str) -> None:
        self.slope = slope
        self.task = task
        self._golden = golden
        self._delay_s = delay_s

    def check_extras(self, names: Sequence[str]) -> tuple[str, ...]:
        if unknown := set(names) - set(self.extras):
            raise InvalidInputError(f"{sorted(unknown)[0]!r} cannot be added.", field="with")
        return tuple(dict.fromkeys(names))

    def check_and_predict(
        self, rows: Sequence[Mapping[str, Any]], *, index: int = 0, extras: Sequence[str] = ()
    ) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
        checked = [self.signature.check_row(row, index=at) for at, row in enumerate(rows, index)]
        return checked, self._answers(checked, extras)

    def _answers(
        self, rows: Sequence[Mapping[str, Any]], extras: Sequence[str]
    ) -> list[dict[str, Any]]:
        if self._delay_s:
            time.sleep(self._delay_s)
        if any(row["city"] == "Boom" for row in rows):
            raise ZeroDivisionError("the model divides by zero in Boom")
        answers = [
            {"prediction": float("nan") if row["city"] == "Nowhere" else self.slope * row["area"]}
            for row in rows
        ]
        for answer in answers if "double" in extras else ():
            answer["double"] = 2 * answer["prediction"]
        return answers

    def one_row(self) -> None:
        return None

    def whole_requests(self, *, after: bytes, head: bytes, tail: bytes) -> None:
        return None

    def with_unknown_columns(self, policy: str) -> SlopeModel:
        made = SlopeModel(
            slope=self.slope, golden=self._golden, delay_s=self._delay_s, task=self.task
        )
        made.signature = replace(SIGNATURE, unknown=policy)
        return made

    def with_unseen_categories(self, policy: str) -> SlopeModel:
        return self

    def check_golden(self) -> None:
        found = self.slope * 10
        if found != self._golden:
            raise InvalidInputError(f"The golden row gives {found}, not {self._golden}.")


def write_bundle(path: Path, *, slope: float, **settings: Any) -> Path:
    """Write a bundle of `SlopeModel`; `golden` can be given wrong."""
    value = {
        "slope": slope,
        "golden": slope * 10,
        "delay_s": 0.0,
        "opening_s": 0.0,
        "task": "regression",
    }
    path.write_text(json.dumps(value | settings))
    return path


def open_standin(path: Path) -> SlopeModel:
    """Open what `write_bundle` wrote."""
    try:
        settings = json.loads(path.read_bytes())
        time.sleep(settings.pop("opening_s"))
        return SlopeModel(**settings)
    except (ValueError, OSError) as error:
        raise InvalidInputError(f"{path.name} is not a model: {error}.") from error


def main(folder: str, seat: Seat | None = None) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    timing = Timing(watch_s=float(os.environ.get("STANDIN_WATCH_S", "0.02")), lock_s=0.5)
    command = (sys.executable, "-W", "error", __file__, folder)
    return serve(Path(folder), open_standin, timing=timing, command=command, seat=seat)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *(Seat.parse(each) for each in sys.argv[2:])))
