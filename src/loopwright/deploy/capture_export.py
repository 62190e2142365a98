"""Captured predictions in the layout that SageMaker's data capture has, for tools that read that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.capture import CapturedPrediction
from loopwright.deploy.segment import Cursor, end_of_log, read_page

# what an endpoint without variants is said to have one of; SageMaker's own name for it
VARIANT = "AllTraffic"
_FILE = "captured.jsonl"
_PAGE_BYTES = 8 << 20
_JSON = "application/json"


def export_capture(folder: Path, target: Path, *, endpoint: str) -> int:
    """Write what was captured as SageMaker's JSON lines, and return how many.

    They lie in `ENDPOINT/VARIANT/YYYY/MM/DD/HH/captured.jsonl` below the target, by the hour of the
    answer in UTC. A line is a row: its input and its answer as JSON, and in `eventMetadata` the
    inference id and the time. Answers of shadows, which nobody saw, lie below the name of their
    variant. Memory stays bounded; what is captured meanwhile is left out.

    Parameters
    ----------
    folder
        Where an endpoint captures.
    target
        A new or empty folder.
    endpoint
        Its name in the layout.

    Raises
    ------
    InvalidInputError
        If there is something in the target.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInputError(
            f"There is something in {target} already.",
            hint="Name a new folder; lines are not written twice into one.",
            field="target",
            value=str(target),
        )
    n_lines = 0
    for predictions in _pages(folder):
        by_file = defaultdict(list)
        for each in predictions:
            at = datetime.fromisoformat(each.at)
            by_file[target / endpoint / (each.variant or VARIANT) / f"{at:%Y/%m/%d/%H}"].append(
                each
            )
        for place, some in by_file.items():
            place.mkdir(parents=True, exist_ok=True)
            with (place / _FILE).open("ab") as file:
                file.writelines(msgspec.json.encode(_line(each)) + b"\n" for each in some)
            n_lines += len(some)
    return n_lines


def _pages(folder: Path) -> Iterator[list[CapturedPrediction]]:
    decoder, cursor, until = msgspec.json.Decoder(CapturedPrediction), Cursor(), end_of_log(folder)
    while (page := read_page(folder, after=cursor, max_bytes=_PAGE_BYTES, until=until)).lines:
        cursor, found = page.cursor, []
        for line in page.lines:
            try:
                found.append(decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a failed write tore it
        yield found


def _line(each: CapturedPrediction) -> dict[str, Any]:
    answer = {"prediction": each.prediction}
    if each.probability is not None:
        answer["probability"] = each.probability
    if each.probabilities is not None:
        answer["probabilities"] = each.probabilities
    answer["model_version"] = each.version
    return {
        "captureData": {
            "endpointInput": _told("INPUT", each.inputs),
            "endpointOutput": _told("OUTPUT", answer),
        },
        "eventMetadata": {
            "eventId": each.inference_id,
            "inferenceId": each.inference_id,
            "inferenceTime": f"{datetime.fromisoformat(each.at):%Y-%m-%dT%H:%M:%SZ}",
        },
        "eventVersion": "0",
    }


def _told(mode: str, value: dict[str, Any]) -> dict[str, str]:
    data = msgspec.json.encode(value).decode()
    return {"observedContentType": _JSON, "mode": mode, "data": data, "encoding": "JSON"}
