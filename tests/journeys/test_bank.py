"""A relational bank in PostgreSQL and its customers in Redis: from tables to features.

The data (Berka, PKDD'99) carry no licence to copy, so they are read from beside the repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

import loopwright as lw
from loopwright.prepare import PreparePlan, fit_recipe, suggest

SHARED = Path(__file__).parents[3] / "shared" / "datasets"
needs_berka = pytest.mark.skipif(
    not (SHARED / "berka_loan.parquet").exists(), reason="the shared data sets are not here"
)

LOANS = """
  SELECT l.loan_id, to_date((19000000 + l.date)::text, 'YYYYMMDD') AS lent_on, l.amount,
         l.duration, l.payments, a.frequency,
         to_date((19000000 + a.date)::text, 'YYYYMMDD') AS opened_on,
         c.birth_number, o.account_to, d."A11" AS average_salary, d."A12" AS unemployment,
         CASE WHEN l.status IN ('B', 'D') THEN 'bad' ELSE 'good' END AS outcome
  FROM loan l
  JOIN account a ON a.account_id = l.account_id
  JOIN disp p ON p.account_id = a.account_id AND p.type = 'OWNER'
  JOIN client c ON c.client_id = p.client_id
  JOIN district d ON d."A1" = a.district_id
  LEFT JOIN (SELECT account_id, max(account_to) AS account_to FROM orders GROUP BY account_id) o
    ON o.account_id = a.account_id
  ORDER BY l.loan_id
"""
LOOP = """\
name: loans
problem: {{target: outcome, positive: bad, criteria: [{{metric: accuracy, at_least: 0.9}}]}}
data:
  source:
    kind: sql
    url: "env:BANK_DATABASE"
    query: |
{query}
  refresh: {{cursor: loan_id}}
prepare:
  derive: {{account_age_days: "days_between(opened_on, lent_on)"}}
train: {{algorithms: [linear-learner]}}
"""


@pytest.fixture
def bank(postgres_url: str) -> Iterator[sa.Engine]:
    """Return the bank's database with the loans up to number 6,500."""
    engine = sa.create_engine(postgres_url)
    for name in ("loan", "account", "disp", "client", "district", "order"):
        frame = pl.read_parquet(SHARED / f"berka_{name}.parquet")
        if name == "loan":
            frame = frame.filter(pl.col("loan_id") <= 6_500)
        table = "orders" if name == "order" else name
        frame.write_database(table, engine, if_table_exists="replace")
    yield engine
    with engine.begin() as connection:
        for name in ("loan", "account", "disp", "client", "district", "orders"):
            connection.execute(sa.text(f"DROP TABLE {name}"))
    engine.dispose()


@needs_berka
@pytest.mark.postgres
def test_loans_come_from_the_bank_in_full_and_then_by_what_is_new(
    bank: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = bank.url.render_as_string(hide_password=False)
    monkeypatch.setenv("BANK_DATABASE", url)
    query = "\n".join(f"      {line}" for line in LOANS.strip().splitlines())
    path = tmp_path / "loop.yaml"
    path.write_text(LOOP.format(query=query))
    loop = lw.Loop(path, home=tmp_path / "home")

    first = loop.refresh()
    rest = pl.read_parquet(SHARED / "berka_loan.parquet").filter(pl.col("loan_id") > 6_500)
    rest.write_database("loan", bank, if_table_exists="append")
    second = loop.refresh()
    loop.run(overrule="features are what is tested", on_news=lambda _: None)

    assert first.state == second.state == "new rows"
    assert loop.rows().collect().height == 682
    assert f"{rest.height:,} new rows" in second.message
    steps = {step["stage"]: step["output"] for step in loop.status().value.steps}
    page = loop.profile().html
    assert "birth_number" in page
    assert steps["explore"]["kinds"]["loan_id"] == "identifier"
    told = " ".join(steps["explore"]["summary"])
    assert "birth_number" in told
    assert "account_to" in told
    features = {name for name, _ in steps["train"]["jobs"][0]["importance"]}
    assert any(name.startswith("account_age_days") for name in features)


@needs_berka
def test_customers_come_from_redis_and_what_names_them_is_dropped(
    redis_url: str, tmp_path: Path
) -> None:
    import redis

    from loopwright.core.clock import FixedClock
    from loopwright.data import RedisSource, open_source, take_snapshot
    from loopwright.explore import profile
    from loopwright.store import MemoryArtifactStore

    owners = pl.read_parquet(SHARED / "berka_disp.parquet").filter(pl.col("type") == "OWNER")
    customers = (
        pl.read_parquet(SHARED / "berka_client.parquet")
        .join(owners.select("client_id", "account_id"), on="client_id")
        .join(
            pl.read_parquet(SHARED / "berka_account.parquet").drop("district_id"), on="account_id"
        )
        .sort("client_id")
        .head(2_000)
    )
    with redis.Redis.from_url(redis_url) as server:
        for row in customers.iter_rows(named=True):
            server.hset(f"customer:{row['client_id']:06d}", mapping=row)
    source = open_source(
        RedisSource(url="env:CUSTOMERS", pattern="customer:*"),
        tmp_path,
        environ={"CUSTOMERS": redis_url},
    )
    artifacts = MemoryArtifactStore(tmp_path / "artifacts")

    snapshot = take_snapshot(source, artifacts=artifacts, clock=FixedClock(), folder=tmp_path)
    rows = pl.read_parquet(artifacts.local_path(snapshot.digest))
    found = profile(rows)
    personal = {f.column for f in found.findings if f.kind == "personal_data" and f.column}
    plan = PreparePlan(drop=tuple(sorted(personal)))
    kinds = {column.name: column.kind for column in found.columns}
    recipe = suggest(rows, "district_id", "regression", plan, family="scaled", kinds=kinds)
    inputs, target = rows.drop("district_id"), rows["district_id"].cast(pl.Float64).to_numpy()
    fitted, X = fit_recipe(recipe, inputs, target, seed=7)

    assert snapshot.n_rows == customers.height
    assert "birth_number" in personal
    assert {"birth_number", "client_id", "account_id", "key"}.isdisjoint(fitted.inputs)
    assert {"frequency", "date"} <= set(fitted.inputs)
    assert X.shape[0] == customers.height
    assert fitted.transform(inputs).shape == X.shape
