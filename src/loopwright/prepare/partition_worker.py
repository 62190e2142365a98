"""The process of a job of preparation: fits a recipe on the parts in its folder, or transforms one.

`python -m loopwright.prepare.partition_worker`, started in the folder that `fit_partitions` or
`transform_partitions` describes. It ends with 0, or with 1 and one line on standard error.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import msgspec

from loopwright.core.errors import LoopwrightError
from loopwright.core.files import write_atomically
from loopwright.prepare.fitting import fit_recipe_lazily
from loopwright.prepare.partition import (
    FEATURES_FILE,
    FITTED_FILE,
    ORDER_FILE,
    PARTS_FOLDER,
    RECIPE_FILE,
    PartitionOrder,
)
from loopwright.prepare.recipe import FittedRecipe, Recipe


def main(folder: Path | None = None) -> int:
    """Do the order in a folder, by default the present one, and return the exit code."""
    try:
        do_order(folder or Path.cwd())
    except LoopwrightError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def do_order(folder: Path) -> None:
    """Leave the fitted recipe, or the features of the part, in `out/`."""
    import polars as pl

    order = msgspec.json.decode((folder / ORDER_FILE).read_bytes(), type=PartitionOrder)
    recipe = (folder / RECIPE_FILE).read_bytes()
    parts = sorted((folder / PARTS_FOLDER).iterdir())
    today = date.fromisoformat(order.today) if order.today else None
    out = folder / "out"
    out.mkdir(exist_ok=True)
    if order.does == "fit":
        table = pl.scan_parquet(parts)
        fitted = fit_recipe_lazily(
            Recipe.from_json(recipe), table, order.target, seed=order.seed, today=today
        )
        write_atomically(out / FITTED_FILE, fitted.to_json().encode())
        return
    FittedRecipe.from_json(recipe).transform_file(parts[0], out / FEATURES_FILE, today=today)


if __name__ == "__main__":
    sys.exit(main())
