from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import loopwright as lw

EXAMPLE = Path(__file__).parents[2] / "examples" / "house-prices"

LOOP_FILE = """\
name: {name}
problem:
  question: What will it sell for?
  target: price
  criteria:
    - {{metric: mape, at_most: {mape}}}
data:
  source: {source}
train:
  algorithms: {algorithms}
  hyperparameters: {hyperparameters}
  resources: {{cpus: 1, memory: 2 GiB}}
deploy: {{endpoint: {name}}}
retrain: {{when: [criterion_missed, drift], min_rows: {min_rows}, approve: {approve}}}
"""

MakeLoop = Callable[..., lw.Loop]


def sales(n: int, *, name: str = "houses.parquet") -> pl.DataFrame:
    """Return real sales, spread over the file."""
    frame = pl.read_parquet(EXAMPLE / name)
    return frame.gather_every(max(1, frame.height // n)).head(n)


@pytest.fixture
def make_loop(tmp_path: Path) -> Iterator[MakeLoop]:
    """Write a loop over real house sales; its endpoint is stopped at the end."""
    made: list[lw.Loop] = []

    def make(
        *,
        name: str = "houses",
        n_rows: int = 1_500,
        source: str = "{kind: file, path: houses.parquet}",
        algorithms: str = "[linear-learner, lightgbm]",
        hyperparameters: str = "{lightgbm: {rounds: 80}}",
        mape: float = 0.24,
        min_rows: int = 300,
        approve: str = "auto",
    ) -> lw.Loop:
        if "kind: file" in source:
            sales(n_rows).write_parquet(tmp_path / "houses.parquet")
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            LOOP_FILE.format(
                name=name,
                source=source,
                algorithms=algorithms,
                hyperparameters=hyperparameters,
                mape=mape,
                min_rows=min_rows,
                approve=approve,
            )
        )
        made.append(lw.Loop(path, home=tmp_path / "home"))
        return made[-1]

    yield make
    for loop in made:
        if (tmp_path / "home").exists():
            loop.stop()
