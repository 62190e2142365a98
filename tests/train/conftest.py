"""A table like one of house sales, and training jobs over it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.prepare import suggest
from loopwright.train import TrainingSpec, get_algorithm, training_job

N_TRAIN, N_VALIDATION = 300, 100
TARGETS = {"regression": "price", "binary": "sold", "multiclass": "band"}
CLASSES = {"regression": (), "binary": ("no", "yes"), "multiclass": ("high", "low", "middle")}

JobFolder = Callable[..., Path]


def houses(n_rows: int = N_TRAIN + N_VALIDATION, *, seed: int = 4) -> pl.DataFrame:
    """Return made-up sales with numbers, texts, a date, gaps and a target for each task."""
    rng = np.random.default_rng(seed)
    area = rng.uniform(40, 300, n_rows).round(1)
    town = rng.choice(["Aa", "Bee", "Cod", "Dry"], n_rows)
    premium = np.select([town == "Aa", town == "Bee"], [2.0, 1.0], 0.3)
    price = 1_000 * area * (1 + premium) * np.exp(0.1 * rng.normal(size=n_rows))
    days = rng.integers(0, 700, n_rows).tolist()
    return pl.DataFrame(
        {
            "area": area,
            "rooms": pl.Series((area / 25).astype(int)).set(pl.Series(area > 280), None),
            "town": pl.Series(town).set(pl.Series(rng.random(n_rows) < 0.05), None),
            "garden": rng.random(n_rows) < 0.5,
            "date": [date(2024, 1, 1) + timedelta(days=day) for day in days],
            "weight": rng.uniform(0.5, 2.0, n_rows),
            "price": price.round(0),
            "sold": np.where(price > np.median(price), "yes", "no"),
            "band": np.select([price < 1e5, price > 3e5], ["low", "high"], "middle"),
        }
    )


@pytest.fixture
def job_folder(tmp_path: Path) -> JobFolder:
    """Return a function that lays the files of a training job into a folder, as compute does."""

    def lay(algorithm: str, task: str, frame: pl.DataFrame | None = None, **more: Any) -> Path:
        frame = houses() if frame is None else frame
        target = TARGETS[task]
        others = [name for name in TARGETS.values() if name != target]
        parts = {"a": frame[:N_TRAIN].drop(others), "b": frame[N_TRAIN:].drop(others)}
        for name, part in parts.items():
            part.write_parquet(tmp_path / f"{name}.parquet")
        spec = TrainingSpec(
            algorithm=algorithm,
            task=task,  # type: ignore[arg-type]
            target=target,
            classes=CLASSES[task],
            weight_column="weight",
        )
        recipe = suggest(
            parts["a"].drop("weight"), target, task, family=get_algorithm(algorithm).features
        )
        job = training_job(
            msgspec.structs.replace(spec, **more),
            name="houses",
            recipe=recipe.to_json(),
            train=tmp_path / "a.parquet",
            validation=tmp_path / "b.parquet",
        )
        folder = tmp_path / f"{algorithm}-{task}"
        folder.mkdir()
        for name, content in job.files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            (folder / name).write_bytes(data)
        return folder

    return lay
