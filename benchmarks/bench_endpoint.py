"""One row at a time: through the endpoint, through the row path, through the library."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

import loopwright as lw
from loopwright.train import open_bundle

EXAMPLE = Path(__file__).parents[1] / "examples" / "house-prices"
N_ROWS = 500


def microseconds(each: Callable[[int], object]) -> float:
    """Return the median over five rounds of the mean wall time of a call."""
    rounds = []
    for _ in range(5):
        clock = time.perf_counter()
        for number in range(N_ROWS):
            each(number)
        rounds.append((time.perf_counter() - clock) / N_ROWS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    """Measure on the later sales and print microseconds per row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
        loop = lw.Loop(folder / "loop.yaml", home=folder / "home")
        champion = loop.run(on_news=lambda _: None).outcome.status.champion
        if champion is None:
            raise SystemExit("the example no longer meets its criteria")
        model = open_bundle(loop.artifact(champion["bundle"]))
        frame = pl.read_parquet(folder / "later-sales.parquet").drop("price").head(N_ROWS)
        rows = frame.rows(named=True)
        typed = pl.DataFrame(
            [model.signature.check_row(row) for row in rows], infer_schema_length=None
        )
        single = [typed[number] for number in range(N_ROWS)]
        with loop.endpoint as client:
            over_http = microseconds(lambda number: client.invoke([rows[number]]))
        in_process = microseconds(lambda number: model.predict([rows[number]]))
        as_table = microseconds(lambda number: model.predict_frame(single[number]))
        loop.stop()
    print(f"over HTTP, one client, capture on     {over_http:9.0f} us")
    print(f"row path in the process               {in_process:9.0f} us")
    print(
        f"table path, a one-row table           {as_table:9.0f} us   "
        f"{as_table / in_process:.1f} x the row path"
    )


if __name__ == "__main__":
    main()
