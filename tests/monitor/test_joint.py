"""Rows as a whole: columns that go together differently, each as usual alone."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from loopwright.monitor import MonitorPlan, Reference, build_reference, start_watch, watch
from loopwright.monitor.joint import DENSITY, RESIDUAL, build_joint
from loopwright.monitor.reference import bin_codes, build_stream

KINDS = {"a": "number", "b": "number", "c": "number", "k": "category"}


def made(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    b, c = a + 0.3 * rng.normal(size=n), rng.normal(size=n)
    kind = np.where(a + 0.5 * rng.normal(size=n) > 0, "high", "low")
    return pl.DataFrame({"a": a, "b": b, "c": c, "k": kind})


@pytest.fixture(scope="module")
def reference() -> Reference:
    return build_reference(made(6_000, 1), np.arange(100.0), None, KINDS)


def look(reference: Reference, rows: pl.DataFrame) -> list[str]:
    predictions = pl.DataFrame(
        {
            "inference_id": [str(k) for k in range(rows.height)],
            "at": pl.Series([datetime(2026, 1, 1, tzinfo=UTC)] * rows.height),
            "version": "1",
            "prediction": np.random.default_rng(0).permutation(rows.height) % 100 * 1.0,
        }
    )
    state = start_watch(reference, MonitorPlan(), version="1")
    _, report = watch(reference, state, predictions, inputs=rows)
    return [alarm.stream for alarm in report.new_alarms]


def test_columns_that_no_longer_go_together_are_found_though_each_is_as_usual(
    reference: Reference,
) -> None:
    rows = made(1_500, 2)
    torn = rows.with_columns(b=rows["b"].shuffle(seed=3))

    assert look(reference, rows) == []
    assert look(reference, torn)[0] in (RESIDUAL, DENSITY)


def test_the_density_is_that_of_a_gaussian_copula() -> None:
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal([0, 0, 0], [[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1]], 20_000)
    names = ("a", "b", "c")
    streams = [
        build_stream(name, pl.Series(column), role="input", kind="number")
        for name, column in zip(names, z.T, strict=True)
    ]
    codes = {s.key: bin_codes(s, column) for s, column in zip(streams, z.T, strict=True)}

    joint = build_joint(streams, codes)

    assert joint is not None
    u = norm.ppf(np.clip(norm.cdf(z), 1e-4, 1 - 1e-4))
    precision = np.linalg.inv(np.corrcoef(u.T) + 0.02 * np.eye(3))
    exact = np.einsum("ij,jk,ik->i", u, precision - np.eye(3), u)
    found = joint.score_rows(codes)[DENSITY]
    # bins are coarser than ranks, most of all in the tails
    assert np.corrcoef(exact, found)[0, 1] > 0.95


def test_the_residual_is_what_the_first_components_leave() -> None:
    rows = made(2_000, 4)
    reference = build_reference(rows, np.arange(100.0), None, KINDS)
    joint = reference.joint
    assert joint is not None

    codes = {s.key: bin_codes(s, rows[s.name]) for s in reference.inputs}
    z = np.stack([np.array(s)[codes[c]] for c, s in zip(joint.columns, joint.scores, strict=True)])
    v = np.array(joint.components)
    left = z - v.T @ (v @ z)

    assert joint.score_rows(codes)[RESIDUAL] == pytest.approx((left**2).sum(axis=0), abs=0.05)


def test_two_columns_have_no_joint_scores() -> None:
    rows = made(500, 5).select("a", "b")

    reference = build_reference(rows, np.arange(100.0), None, KINDS)

    assert reference.joint is None
    assert reference.find("joint") is None


@pytest.mark.parametrize("name", [RESIDUAL, DENSITY])
def test_new_rows_look_as_usual_as_those_of_a_small_reference(name: str) -> None:
    loadings = np.random.default_rng(0).normal(size=(5, 20))

    def rows(seed: int, n: int) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(n, 5)) @ loadings + rng.normal(size=(n, 20))
        return pl.DataFrame({f"x{k}": values[:, k] for k in range(20)})

    kinds = dict.fromkeys([f"x{k}" for k in range(20)], "number")
    shares = []
    for seed in range(4):
        learnt = build_reference(rows(seed, 400), np.arange(100.0), None, kinds)
        joint = next(each for each in learnt.streams if each.name == name)
        n_reference = np.array(joint.counts[:-1]) / sum(joint.counts)
        fresh = rows(100 + seed, 4_000)
        bins = {each.key: bin_codes(each, fresh[each.name]) for each in learnt.inputs}
        assert learnt.joint is not None
        live = bin_codes(joint, learnt.joint.score_rows(bins)[name])
        n_live = np.bincount(live, minlength=joint.n_bins)[:-1] / 4_000
        below = np.cumsum(n_reference) - n_reference / 2
        shares.append(float(n_live @ below))

    # the chance that a new row scores higher than one of the reference
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
