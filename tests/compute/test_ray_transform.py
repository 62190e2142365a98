"""A transform whose jobs run on a cluster writes what it writes on this machine."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import loopwright as lw
from loopwright.core.digest import digest_file
from loopwright.prepare import Signature, fit_recipe, suggest
from loopwright.testing.ray_cluster import StartedRayCluster
from loopwright.train import (
    Outcome,
    TrainingData,
    TrainingPart,
    fit_algorithm,
    get_algorithm,
    pack_bundle,
)
from loopwright.train.predictor_file import pack_predictor

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "house-prices"


def packed(table: pl.DataFrame, path: Path) -> Path:
    """Write a model of house prices."""
    y = table["price"].cast(pl.Float64).to_numpy()
    rows = table.drop("price")
    recipe = suggest(table, "price", "regression", family="linear")
    fitted, X = fit_recipe(recipe, rows, y, seed=0)
    part = TrainingPart(X=X, y=y)
    model = fit_algorithm(
        get_algorithm("linear-learner"),
        TrainingData(train=part, validation=part),
        task="regression",
        hyperparameters={},
        seed=0,
        threads=1,
    )
    files = {
        **pack_predictor(model.predictor),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": Signature.from_frame(rows).to_json().encode(),
    }
    outcome = Outcome(task="regression")
    path.write_bytes(pack_bundle(files, name="houses", algorithm="linear-learner", outcome=outcome))
    return path


def test_a_cluster_answers_rows_as_this_machine_does(
    cluster: StartedRayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pl.read_parquet(EXAMPLE / "houses.parquet").drop_nulls("price")
    bundle = packed(table.head(2_000), tmp_path / "model.tar.gz")
    table.drop("price").head(5_000).write_parquet(tmp_path / "rows.parquet")
    home = tmp_path / "home"
    plan = {"part_rows": 300, "keep": ["*"], "home": home}
    here = lw.transform(bundle, tmp_path / "rows.parquet", tmp_path / "here", **plan)

    monkeypatch.setenv("LOOPWRIGHT_COMPUTE", "ray")
    monkeypatch.setenv("LOOPWRIGHT_RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("LOOPWRIGHT_RAY_TOKEN_FILE", str(cluster.token_file))
    there = lw.transform(bundle, tmp_path / "rows.parquet", tmp_path / "there", jobs=2, **plan)

    assert (there.n_rows, there.n_parts) == (here.n_rows, here.n_parts) == (5_000, 17)
    for name in [path.name for path in (tmp_path / "here").glob("part-*")]:
        assert digest_file(tmp_path / "there" / name) == digest_file(tmp_path / "here" / name)
    assert lw.jobs(home=home)["kind"].to_list().count("transform") == 3
