"""The process of a transform's job: reads the rows in its folder, writes their answers to `out/`.

`python -m loopwright.deploy.transform_worker`, started in the folder that `transform_job` describes.
It ends with 0, or with 1 and one line on standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from loopwright.core.errors import LoopwrightError
from loopwright.deploy.transform_job import (
    MODEL_FILE,
    ORDER_FILE,
    OUT_FOLDER,
    TransformOrder,
    rows_file,
)
from loopwright.deploy.transform_part import DatedModel, written_part


def do_transform_job(folder: Path) -> None:
    """Answer the parts in a folder."""
    import polars as pl

    from loopwright.train import open_bundle

    order = msgspec.json.decode((folder / ORDER_FILE).read_bytes(), type=TransformOrder)
    dated = DatedModel(open_bundle(folder / MODEL_FILE), order.today)
    out = folder / OUT_FOLDER
    out.mkdir(exist_ok=True)
    for number in order.numbers:
        part = pl.read_parquet(folder / rows_file(number))
        done = written_part(dated, part, out, order.plan, number)
        rejected = f", {done.n_rejected:,} rejected" if done.n_rejected else ""
        print(f"part {number:>6}  {done.n_rows:,} rows{rejected}", flush=True)


def main() -> int:
    """Do the job of the present folder and return the exit code."""
    try:
        do_transform_job(Path.cwd())
    except LoopwrightError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
