"""All rows of files are answered once, with the endpoint's numbers, whatever interrupts the work."""

from __future__ import annotations

import fcntl
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import loopwright as lw
from loopwright.cli import main as command_line  # noqa: F401 the commands join the group
from loopwright.cli.main import cli
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.data import FileSource, open_source
from loopwright.deploy.transform import TransformResult, transform
from loopwright.deploy.transform_part import TransformPlan
from loopwright.prepare import suggest
from loopwright.train import (
    Outcome,
    ServingModel,
    TrainingSpec,
    get_algorithm,
    model_members,
    open_bundle,
    pack_bundle,
    training_job,
)
from loopwright.train.worker import do_training_job

TODAY = date(2026, 1, 31)
N_ROWS = 2_500


def houses(n_rows: int, *, seed: int = 4) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    area = rng.uniform(40, 300, n_rows).round(1)
    days = rng.integers(0, 700, n_rows).tolist()
    return pl.DataFrame(
        {
            "id": [f"h{number}" for number in range(n_rows)],
            "area": area,
            "town": pl.Series(rng.choice(["Aa", "Bee", "Cod"], n_rows)).set(
                pl.Series(rng.random(n_rows) < 0.05), None
            ),
            "garden": rng.random(n_rows) < 0.5,
            "built": [date(2024, 1, 1) + timedelta(days=day) for day in days],
            "sold": np.where(area + rng.normal(0, 40, n_rows) > 170, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    frame = houses(400).drop("id")
    parts = {"train": frame[:300], "validation": frame[300:]}
    for name, part in parts.items():
        part.write_parquet(folder / f"{name}.parquet")
    spec = TrainingSpec(algorithm="lightgbm", task="binary", target="sold", classes=("no", "yes"))
    family = get_algorithm("lightgbm").features
    recipe = suggest(parts["train"], "sold", "binary", family=family)
    job = training_job(
        spec,
        name="houses",
        recipe=recipe.to_json(),
        train=folder / "train.parquet",
        validation=folder / "validation.parquet",
    )
    work = folder / "job"
    work.mkdir()
    for name, content in job.files.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        (work / name).write_bytes(data)
    do_training_job(work)
    outcome = Outcome(task="binary", classes=("no", "yes"))
    packed = pack_bundle(model_members(work), name="houses", algorithm="lightgbm", outcome=outcome)
    path = folder / "model.tar.gz"
    path.write_bytes(packed)
    return path


@pytest.fixture
def model(bundle: Path) -> ServingModel:
    return open_bundle(bundle)


@pytest.fixture
def rows() -> pl.DataFrame:
    return houses(N_ROWS, seed=7).drop("sold")


def run(
    model: Any, path: Path, output: Path, *, on_part: Any = None, **plan: Any
) -> TransformResult:
    source = open_source(FileSource(path=path.name), path.parent)
    wanted = TransformPlan(**{"part_rows": 1_000, **plan})
    return transform(model, source, output, plan=wanted, today=TODAY, on_part=on_part)


def answers(output: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted(output.glob("part-*.parquet")))


@pytest.mark.parametrize("kind", ["rows.parquet", "rows.csv", "rows.jsonl", "folder", "*.parquet"])
def test_every_kind_of_input_gives_the_endpoints_answers(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path, kind: str
) -> None:
    if kind in ("folder", "*.parquet"):
        folder = tmp_path / "folder" if kind == "folder" else tmp_path
        folder.mkdir(exist_ok=True)
        rows[:1_300].write_parquet(folder / "a.parquet")
        rows[1_300:].write_parquet(folder / "b.parquet")
    else:
        write = {"parquet": "parquet", "csv": "csv", "jsonl": "ndjson"}[kind.partition(".")[2]]
        getattr(rows, f"write_{write}")(tmp_path / kind)

    result = run(model, tmp_path / kind, tmp_path / "out", id_column="id", keep=("town",))

    found = answers(tmp_path / "out")
    expected = model.predict(rows, today=TODAY)
    assert (result.n_rows, result.n_rejected, result.n_parts) == (N_ROWS, 0, 3)
    assert found.columns == ["row", "id", "town", "prediction", "probability"]
    assert found["row"].to_list() == list(range(N_ROWS))
    assert found["id"].to_list() == rows["id"].to_list()
    assert found["prediction"].to_list() == [each["prediction"] for each in expected]
    assert found["probability"].to_list() == [each["probability"] for each in expected]


def test_the_numbers_are_those_of_the_table_path(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path
) -> None:
    rows.write_parquet(tmp_path / "rows.parquet")

    run(model, tmp_path / "rows.parquet", tmp_path / "out")

    table = model.predict_frame(rows, today=TODAY)
    np.testing.assert_array_equal(answers(tmp_path / "out")["probability"], table.reshape(-1))


def test_rows_that_cannot_be_used_are_set_apart_with_the_reason(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path
) -> None:
    bad = {3: "big", 1_700: "", 2_499: "nan"}
    area = [bad.get(at, str(value)) for at, value in enumerate(rows["area"])]
    rows.with_columns(area=pl.Series(area)).write_csv(tmp_path / "rows.csv")

    result = run(model, tmp_path / "rows.csv", tmp_path / "out", id_column="id")

    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "out").glob("rejects-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert [(each["row"], each["id"], each["field"]) for each in lines] == [
        (at, f"h{at}", "area") for at in bad
    ]
    assert lines[0]["message"] == "'area' of row 3 is 'big'; expected a number."
    assert result.n_rejected == 3
    assert set(range(N_ROWS)) - set(answers(tmp_path / "out")["row"]) == set(bad)


@pytest.mark.parametrize("stops_at", [0, 1])
def test_a_transform_that_was_interrupted_goes_on(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path, stops_at: int
) -> None:
    path = tmp_path / "rows.parquet"
    rows.write_parquet(path)

    def stop(number: int, *_counts: int) -> None:
        if number == stops_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, path, tmp_path / "out", on_part=stop)
    (tmp_path / "out" / ".tmp-part-000002.parquet.0").write_bytes(b"half")
    first = (tmp_path / "out" / "part-000000.parquet").stat()

    made: list[int] = []
    result = run(model, path, tmp_path / "out", on_part=lambda number, *_: made.append(number))
    run(model, path, tmp_path / "whole")

    assert made == list(range(stops_at + 1, 3))
    assert result.n_kept_parts == stops_at + 1
    assert (tmp_path / "out" / "part-000000.parquet").stat() == first
    assert answers(tmp_path / "out").equals(answers(tmp_path / "whole"))
    assert not list((tmp_path / "out").glob(".tmp-*"))


def test_what_is_done_is_not_read_again(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.parquet"
    rows.write_parquet(path)
    run(model, path, tmp_path / "out")
    monkeypatch.setattr("loopwright.data.file.OpenedFiles.batches", None)

    again = run(model, path, tmp_path / "out")

    assert (again.n_rows, again.n_kept_parts, again.n_parts) == (N_ROWS, 3, 3)


def test_a_transform_goes_on_with_the_day_it_began_on(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    rows.write_parquet(path)
    run(model, path, tmp_path / "out")
    source = open_source(FileSource(path=path.name), tmp_path)
    plan = TransformPlan(part_rows=1_000)

    transform(model, source, tmp_path / "out", plan=plan, today=date(2030, 1, 1))

    assert json.loads((tmp_path / "out" / "transform.json").read_text())["today"] == "2026-01-31"


def test_another_input_plan_or_folder_is_refused(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    rows.write_parquet(path)
    run(model, path, tmp_path / "out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").touch()

    with pytest.raises(WrongStateError, match="plan was"):
        run(model, path, tmp_path / "out", part_rows=10)
    with pytest.raises(WrongStateError, match=r"mine\.txt"):
        run(model, path, tmp_path / "used")
    rows[:5].write_parquet(path)
    with pytest.raises(WrongStateError, match="input_fingerprint was"):
        run(model, path, tmp_path / "out")


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"id_column": "idd"}, "'idd'"),
        ({"keep": ("twon",)}, "'twon'"),
        ({"extras": ("nonsense",)}, "nonsense"),
        ({"part_rows": 0}, "0 rows"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused_before_a_row_is_read(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path, plan: Any, says: str
) -> None:
    rows.write_parquet(tmp_path / "rows.parquet")

    with pytest.raises(InvalidInputError, match=says):
        run(model, tmp_path / "rows.parquet", tmp_path / "out", **plan)

    assert not (tmp_path / "out").exists()


def test_an_input_without_a_needed_column_is_refused(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path
) -> None:
    rows.drop("area").write_parquet(tmp_path / "rows.parquet")

    with pytest.raises(InvalidInputError, match="no column 'area'"):
        run(model, tmp_path / "rows.parquet", tmp_path / "out")


def test_all_columns_can_be_kept_under_names_of_their_own(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path
) -> None:
    rows.with_columns(prediction=pl.lit("old")).write_parquet(tmp_path / "rows.parquet")

    run(model, tmp_path / "rows.parquet", tmp_path / "out", keep=("*",))

    found = answers(tmp_path / "out")
    kept = ["id", "area", "town", "garden", "built", "input_prediction"]
    assert found.columns == ["row", *kept, "prediction", "probability"]
    assert found.select("area", "built").equals(rows.select("area", "built"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_parts_may_be_text(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path, kind: Any
) -> None:
    rows[:3].with_columns(id=pl.lit("=1+1")).write_parquet(tmp_path / "rows.parquet")

    run(model, tmp_path / "rows.parquet", tmp_path / "out", id_column="id", format=kind)

    part = tmp_path / "out" / f"part-000000.{kind}"
    found = pl.read_csv(part) if kind == "csv" else pl.read_ndjson(part)
    assert found["id"].to_list() == ["'=1+1" if kind == "csv" else "=1+1"] * 3
    assert found["probability"].dtype == pl.Float64


def test_the_command_and_the_function_do_the_same(
    bundle: Path, rows: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    rows.with_columns(area=pl.col("area").cast(pl.String).replace("", "x")).write_csv(path)
    with path.open("a") as file:
        file.write("h9,x,Aa,true,2024-01-01\n")

    result = lw.transform(bundle, path, tmp_path / "a", id_column="id")
    said = CliRunner().invoke(
        cli,
        [
            *("transform", str(bundle), "--input", str(path), "--output", str(tmp_path / "b")),
            *("--id", "id", "--json"),
        ],
    )

    assert said.exit_code == 3
    assert json.loads(said.output)["n_rejected"] == result.n_rejected == 1
    assert answers(tmp_path / "a").equals(answers(tmp_path / "b"))


def test_a_model_may_refuse_columns_it_does_not_read(
    model: ServingModel, rows: pl.DataFrame
) -> None:
    strict = model.with_unknown_columns("refuse")
    row = rows.drop("id").to_dicts()[0]

    assert strict.predict([row]) == model.predict([row])
    with pytest.raises(InvalidInputError, match="'more'"):
        strict.predict([{**row, "more": 1}])
    assert strict.with_unknown_columns("refuse") is strict


def test_a_model_may_refuse_categories_it_never_saw(
    model: ServingModel, rows: pl.DataFrame
) -> None:
    strict = model.with_unseen_categories("refuse")
    row = rows.drop("id").to_dicts()[0]
    (name,) = [field.name for field in model.signature.fields if field.kind == "category"][:1]

    assert strict.predict([row]) == model.predict([row])
    with pytest.raises(InvalidInputError, match="never saw"):
        strict.predict([{**row, name: "never seen"}])
    assert strict.with_unseen_categories("refuse") is strict
    assert strict.with_unseen_categories("allow").predict([{**row, name: "never seen"}])


def test_two_processes_do_not_write_to_one_folder(
    model: ServingModel, rows: pl.DataFrame, tmp_path: Path
) -> None:
    rows.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "out").mkdir()

    with (tmp_path / "out" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(WrongStateError, match="Another process"):
            run(model, tmp_path / "rows.parquet", tmp_path / "out")
