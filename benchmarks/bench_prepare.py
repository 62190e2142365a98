"""Fit and transform of a recipe against an equivalent scikit-learn ColumnTransformer on pandas.

`PYTHONPATH=src python benchmarks/bench_prepare.py [--rows 100000 1000000] [--rounds 2]`

26 features of a table with the columns of Adult and three of flights (resampled from
../shared/datasets/adult.parquet, or made with the same types where it is not there): 11 numbers
filled by the median and scaled, 10 categories numbered, 2 target-encoded, 3 derived. Each run is a
process of its own that reads the Parquet file; runs are interleaved. Printed are the CPU seconds
(user and system) of fit and transform and of the whole process, its peak memory, and the ratios.
`loopwright, file` fits and transforms from file to file without holding the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ADULT = Path(__file__).parents[2] / "shared" / "datasets" / "adult.parquet"
NUMBERS = [f"n{k}" for k in range(11)]
CATEGORIES = [f"c{k}" for k in range(10)]
ENCODED = ["e0", "e1"]
WAYS = ("loopwright", "loopwright, file", "scikit-learn")


def make_table(path: Path, n_rows: int) -> None:
    """Write a table of `n_rows` rows: 11 numbers with gaps, 10 categories, 2 of many levels."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    source = pl.read_parquet(ADULT) if ADULT.is_file() else pl.DataFrame()
    if source.height:
        source = source[rng.integers(0, source.height, n_rows)]
    numeric = [source[c] for c in source.columns if source[c].dtype.is_numeric()]
    texts = [source[c] for c in source.columns if source[c].dtype == pl.String]
    for at, name in enumerate(NUMBERS):
        values = numeric[at].cast(pl.Float64).to_numpy() if at < len(numeric) else None
        values = rng.lognormal(size=n_rows) if values is None else values + rng.random(n_rows)
        columns[name] = np.where(rng.random(n_rows) < 0.03, np.nan, values)
    for at, name in enumerate(CATEGORIES):
        levels = [f"level {k}" for k in range(4 + 3 * at)]
        known = texts[at].fill_null("?") if at < len(texts) else None
        columns[name] = known if known is not None else rng.choice(levels, n_rows)
    for name, n_levels in zip(ENCODED, (100, 3_000), strict=True):
        levels = np.array([f"{name}-{k:05}" for k in range(n_levels)])
        columns[name] = levels[rng.integers(0, n_levels, n_rows)]
    columns["target"] = rng.normal(size=n_rows)
    pl.DataFrame(columns).with_columns(pl.col(NUMBERS).fill_nan(None)).write_parquet(path)


def recipe() -> Any:
    """Return the recipe of 26 features."""
    from loopwright.prepare import Derive, Impute, Ordinal, Recipe, Scale, TargetEncode

    return Recipe(
        (
            Derive(name="d0", expression="n0 * n1"),
            Derive(name="d1", expression="n2 - n3"),
            Derive(name="d2", expression="n4 + n5"),
            Impute(columns=tuple(NUMBERS), indicator=False),
            Scale(columns=tuple(NUMBERS)),
            Ordinal(columns=tuple(CATEGORIES)),
            TargetEncode(columns=tuple(ENCODED)),
        )
    )


def with_loopwright(path: Path, tick: Any) -> tuple[int, int]:
    """Fit on a table in memory and transform it."""
    import polars as pl

    from loopwright.prepare import fit_recipe

    frame = pl.read_parquet(path)
    target = frame["target"].to_numpy()
    frame = frame.drop("target")
    tick("read")
    fitted = fit_recipe(recipe(), frame, target, seed=0)[0]
    tick("fit")
    found = fitted.transform(frame)
    tick("transform")
    return found.shape


def with_loopwright_file(path: Path, tick: Any) -> tuple[int, int]:
    """Fit on a file and transform it into another."""
    import polars as pl

    from loopwright.prepare import fit_recipe_lazily

    assert pl.Float64
    tick("read")
    fitted = fit_recipe_lazily(recipe(), path, "target", seed=0)
    tick("fit")
    with tempfile.TemporaryDirectory() as folder:
        n_rows = fitted.transform_file(path, Path(folder) / "features.parquet")
    tick("transform")
    return n_rows, len(fitted.feature_names)


def with_sklearn(path: Path, tick: Any) -> tuple[int, int]:
    """Fit a ColumnTransformer on pandas, target encoding out of fold as well, and transform."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        FunctionTransformer,
        OrdinalEncoder,
        StandardScaler,
        TargetEncoder,
    )

    frame = pd.read_parquet(path)
    target = frame.pop("target").to_numpy()
    tick("read")

    def derived(table: Any) -> Any:
        return pd.DataFrame(
            {
                "d0": table["n0"] * table["n1"],
                "d1": table["n2"] - table["n3"],
                "d2": table["n4"] + table["n5"],
            }
        )

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    transformer = ColumnTransformer(
        [
            ("derived", FunctionTransformer(derived), NUMBERS[:6]),
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            ("categories", codes, CATEGORIES),
            ("encoded", TargetEncoder(smooth=10.0, target_type="continuous"), ENCODED),
        ]
    )
    transformer.fit_transform(frame, target)
    tick("fit")
    found = transformer.transform(frame)
    tick("transform")
    return found.shape


def run_here(way: str, path: Path) -> None:
    """Do one way in this process and print its figures as JSON."""
    usage: dict[str, float] = {}
    last = [time.process_time()]

    def tick(what: str) -> None:
        now = time.process_time()
        usage[what], last[0] = now - last[0], now

    do = dict(zip(WAYS, (with_loopwright, with_loopwright_file, with_sklearn), strict=True))[way]
    shape = do(path, tick)
    assert shape[1] == 26, shape
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**usage, "process": time.process_time(), "peak_mib": peak}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--path", type=Path)
    given = parser.parse_args()
    if given.way:
        run_here(given.way, given.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        for n_rows in given.rows:
            path = Path(folder) / f"{n_rows}.parquet"
            make = f"import bench_prepare as b, pathlib; b.make_table(pathlib.Path({str(path)!r}), {n_rows})"
            subprocess.run([sys.executable, "-c", make], check=True, cwd=Path(__file__).parent)
            report(n_rows, measured(path, given.rounds))


def measured(path: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the median figures of every way, run one after the other in each round."""
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--path", str(path)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[way].append(json.loads(told.splitlines()[-1]))
    return {
        way: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for way, found in runs.items()
    }


def report(n_rows: int, figures: dict[str, dict[str, float]]) -> None:
    """Print a table, and the ratios to scikit-learn."""
    print(f"\n{n_rows:,} rows, 26 features; CPU seconds, peak MiB")
    keys = ("read", "fit", "transform", "process", "peak_mib")
    print(f"{'':>18}" + "".join(f"{key:>11}" for key in keys) + f"{'fit+tr':>11}")
    for way, found in figures.items():
        work = found["fit"] + found["transform"]
        print(f"{way:>18}" + "".join(f"{found[key]:>11.2f}" for key in keys) + f"{work:>11.2f}")
    theirs = figures["scikit-learn"]
    for way in WAYS[:2]:
        ours = figures[way]
        speed = (theirs["fit"] + theirs["transform"]) / (ours["fit"] + ours["transform"])
        print(
            f"scikit-learn / {way}: {speed:.1f} times the CPU of fit and transform, "
            f"{theirs['process'] / ours['process']:.1f} of the process, "
            f"{theirs['peak_mib'] / ours['peak_mib']:.1f} times the memory"
        )


if __name__ == "__main__":
    main()
