"""The demonstration: real house prices, from the problem to a model that was replaced in time."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.show import Progress, echo_json, table
from loopwright.core.errors import LoopwrightError, NotFoundError
from loopwright.notebook import Loop, read_table

if TYPE_CHECKING:
    import polars as pl

PRICE_FACTOR = 1.25
PRICE_SPREAD = 0.02
SEED = 7
REPLAYED_FIRST = 0.6


@dataclass(slots=True)
class Traffic:
    """Requests sent one after the other while the loop works; counts what came back."""

    loop: Loop
    rows: list[dict[str, Any]]
    answered: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Traffic:
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _send(self) -> None:
        with self.loop.endpoint as client:
            number = 0
            while not self._stop.is_set():
                row = self.rows[number % len(self.rows)]
                number += 1
                try:
                    answer = client.invoke([row], inference_ids=[f"traffic-{number}"])[0]
                    version = str(answer["model_version"])
                    self.answered[version] = self.answered.get(version, 0) + 1
                except LoopwrightError as error:
                    self.failures.append(str(error))
                self._stop.wait(0.01)


def example_folder() -> Path:
    """Return where the house-price example lies: in the package, or in the repository."""
    import loopwright

    package = Path(loopwright.__file__).parent
    for place in (package / "examples", package.parent.parent / "examples"):
        if (place / "house-prices" / "loop.yaml").exists():
            return place / "house-prices"
    raise NotFoundError(
        "The house-price example is not beside the package.",
        hint="Install loopwright again, or run the demo from a clone of the repository.",
        kind="example",
        name="house-prices",
    )


def run_demo(folder: Path, *, stop: bool, as_json: bool) -> int:
    """Run the demonstration in a folder made anew, and return the exit code.

    Every figure that is printed is measured in this run.
    """
    began = time.perf_counter()

    def said(text: str) -> None:
        if not as_json:
            click.echo(text)

    loop = _fresh_loop(folder)
    first = loop.run(on_news=Progress(quiet=as_json)).outcome
    said(f"\n{first.message}\n")
    if first.exit_code:
        return first.exit_code
    steps = _step_times(first)
    again = loop.run(on_news=Progress(quiet=True)).outcome
    home = folder / ".loopwright"
    nothing_s = _start_time(
        "-m", "loopwright", "--home", str(home), "run", str(folder / "loop.yaml"), n=3
    )
    later = read_table(folder / "later-sales.parquet")
    prices = _pushed_up(later)
    n_first = int(later.height * REPLAYED_FIRST)
    said(
        f"Replaying {n_first:,} later sales (from 1 March 2015), prices pushed up by "
        f"{PRICE_FACTOR - 1:.0%} (spread {PRICE_SPREAD:.0%}, seed {SEED}), ground truth included."
    )
    inputs = later.drop("price")
    _replay(loop, inputs[:n_first], prices[:n_first], prefix="sale")
    with Traffic(loop, inputs.rows(named=True)[:200]) as traffic:
        second = loop.run(on_news=Progress(quiet=as_json)).outcome
        answers = _replay(loop, inputs[n_first:], prices[n_first:], prefix="after")
    said(f"\n{second.message}\n")
    live = _before_and_after(loop, inputs[n_first:], prices[n_first:], answers)
    third = loop.run(on_news=Progress(quiet=as_json)).outcome
    pages = {
        "the whole loop on one page": loop.page().save(folder / "loop.html"),
        "the model, for the people it concerns": loop.model_report().save(folder / "report.html"),
        "what the rows look like": loop.profile().save(folder / "profile.html"),
        "drift and live quality": loop.report().save(folder / "monitor.html"),
    }
    figures = {
        "steps": steps,
        "steps_wall_s": sum(step["wall_s"] for step in steps),
        "algorithms_s": sum(step["algorithm_s"] for step in steps),
        "first_run_s": first.wall_s,
        "nothing_to_do_s": again.wall_s,
        "nothing_to_do_steps": again.n_steps,
        "nothing_to_do_from_the_shell_s": nothing_s,
        "help_s": _start_time("-m", "loopwright", "--help"),
        "python_s": _start_time("-c", "pass"),
        "requests": sum(traffic.answered.values()),
        "answered_by": traffic.answered,
        "failed_requests": len(traffic.failures),
        "live": live,
        "round": third.status.round,
        "wall_s": time.perf_counter() - began,
    }
    if as_json:
        echo_json(figures)
    else:
        _tell(loop, figures, pages, folder)
    if stop:
        loop.stop()
    return 0 if not traffic.failures and live["after"] < live["before"] else 1


def _fresh_loop(folder: Path) -> Loop:
    home = folder / ".loopwright"
    if home.exists() and (folder / "loop.yaml").exists():
        Loop(folder / "loop.yaml", home=home).stop()  # an earlier demonstration may still serve
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(example_folder(), folder, dirs_exist_ok=True)
    return Loop(folder / "loop.yaml", home=home)


def _step_times(outcome: Any) -> list[dict[str, Any]]:
    return [
        {
            "step": step["stage"],
            "wall_s": float(step["wall_s"]),
            "algorithm_s": float(step["algorithm_s"]),
        }
        for step in outcome.status.steps
        if step["state"] == "done"
    ]


def _pushed_up(later: pl.DataFrame) -> list[float]:
    import numpy as np

    noise = np.random.default_rng(SEED).lognormal(0.0, PRICE_SPREAD, size=later.height)
    pushed: list[float] = (later["price"].to_numpy() * PRICE_FACTOR * noise).round(-2).tolist()
    return pushed


def _replay(
    loop: Loop, inputs: pl.DataFrame, prices: list[float], *, prefix: str
) -> list[dict[str, Any]]:
    """Send rows to the endpoint, then tell it the true prices by inference id."""
    ids = [f"{prefix}-{number}" for number in range(inputs.height)]
    answers = loop.predict(inputs, inference_ids=ids)
    loop.add_labels(dict(zip(ids, prices, strict=True)), source="replay")
    return answers


def _before_and_after(
    loop: Loop, inputs: pl.DataFrame, prices: list[float], answers: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the error of the replaced model and of its successor on the same later sales."""
    from loopwright.core.digest import digest_file
    from loopwright.train import open_bundle

    champion = loop.status().value.champion or {}
    before = champion.get("before") or champion
    path = loop.artifact(before["bundle"])
    old = open_bundle(path)
    old_answers = old.predict(inputs.rows(named=True))

    def mape(found: list[dict[str, Any]]) -> float:
        return statistics.fmean(
            abs(answer["prediction"] - price) / price
            for answer, price in zip(found, prices, strict=True)
        )

    def within(found: list[dict[str, Any]]) -> float:
        return statistics.fmean(
            abs(answer["prediction"] - price) <= 0.05 * price
            for answer, price in zip(found, prices, strict=True)
        )

    return {
        "n_sales": inputs.height,
        "before": mape(old_answers),
        "after": mape(answers),
        "within_5_percent_before": within(old_answers),
        "within_5_percent_after": within(answers),
        "version_before": before["version"],
        "version_after": champion["version"],
        "bundle_before": digest_file(path),
    }


def _start_time(*arguments: str, n: int = 5) -> float:
    """Return the median wall time in seconds of `n` starts of Python."""
    times = []
    for _ in range(n):
        clock = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - clock)
    return statistics.median(times)


def _program() -> str:
    """Return what to type for `loopwright`: its path where the shell would not find it."""
    if shutil.which("loopwright"):
        return "loopwright"
    program = Path(sys.executable).parent / "loopwright"
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)


def _tell(loop: Loop, figures: dict[str, Any], pages: dict[str, Path], folder: Path) -> None:
    click.secho("What it took (first run)", bold=True)
    rows = [
        (s["step"], round(s["wall_s"], 2), round(s["algorithm_s"], 2)) for s in figures["steps"]
    ]
    click.echo(table(("step", "seconds", "of which algorithms"), rows))
    ours = 1 - figures["algorithms_s"] / max(figures["first_run_s"], 1e-9)
    click.echo(
        f"whole first run {figures['first_run_s']:.1f} s, of which not the algorithms' own training "
        f"{ours:.0%}; a run with nothing to do {figures['nothing_to_do_s']:.2f} s in Python, "
        f"{figures['nothing_to_do_from_the_shell_s']:.2f} s from the shell; "
        f"loopwright --help {figures['help_s']:.2f} s, python -c pass {figures['python_s']:.2f} s"
    )
    live = figures["live"]
    click.secho("\nBefore and after", bold=True)
    click.echo(
        table(
            ("on the same later sales", "mape", "within 5 %", "version"),
            [
                (
                    "replaced model",
                    live["before"],
                    live["within_5_percent_before"],
                    live["version_before"],
                ),
                (
                    "its successor",
                    live["after"],
                    live["within_5_percent_after"],
                    live["version_after"],
                ),
            ],
        )
    )
    click.echo(
        f"{live['n_sales']:,} sales; {figures['requests']:,} requests went on meanwhile, "
        f"{figures['failed_requests']} failed."
    )
    click.secho("\nWhere to look", bold=True)
    command = f"{_program()} --home {folder / '.loopwright'}"
    click.echo(f"  the loop:      {command} status")
    click.echo(f"  its history:   {command} status --json")
    for what, path in pages.items():
        click.echo(f"  {what}: {path}")
    url = loop.url
    click.echo(f"  the endpoint:  {url}  (curl {url}/openapi.json)")
    click.echo(f"  stop it:       {command} stop endpoint/house-prices")
    click.echo(f"Done in {figures['wall_s']:.0f} s.")
