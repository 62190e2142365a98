"""The commands on jobs: list, show, rerun, clean, their logs, and how to stop them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from loopwright.cli.main import _workspace, cli, command


def _listed(home: Path | None, as_json: bool) -> None:
    """List the jobs: training, scripts and endpoints."""
    from loopwright.cli.show import echo_json, table
    from loopwright.notebook.training_job import about, ran_s

    found = _workspace(home).compute.list_()
    if as_json:
        echo_json([_job(job) for job in found])
        return
    header = ("id", "kind", "name", "state", "seconds", "about")
    rows = [(job.id, job.kind, job.name, job.state.value, ran_s(job), about(job)) for job in found]
    click.echo(table(header, rows))


def _list(**options: Any) -> None:
    if click.get_current_context().invoked_subcommand is None and listed.callback:
        listed.callback(**options)


# with the options of every command; the group itself does the listing
listed = command(_listed, click.Group())
jobs = click.Group(
    "jobs",
    callback=_list,
    params=listed.params,
    invoke_without_command=True,
    help="List the jobs; with a command: show one, run it again, remove old files.",
)
jobs.add_command(listed, "list")
cli.add_command(jobs)


def job_command(function: Callable[..., Any]) -> click.Command:
    """Return a command of the group `jobs`."""
    return command(function, jobs)


@job_command
@click.argument("job")
@click.option("--packages", is_flag=True, help="List every package as well.")
@click.option("--metrics", is_flag=True, help="List the last value of every metric as well.")
def show(home: Path | None, as_json: bool, job: str, packages: bool, metrics: bool) -> None:
    """Show all that is on record of a job: what it was made of, where and how it ran."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook.job_keeping import job_facts
    from loopwright.notebook.training_job import latest_metrics

    workspace = _workspace(home)
    facts = job_facts(workspace, _whole(workspace, job))
    if metrics or as_json:
        facts["metrics"] = latest_metrics(Path(facts["folder"]))
    if as_json:
        echo_json(facts)
        return
    if not packages:
        facts["packages"] = f"{len(facts.get('packages', {}))} (--packages lists them)"
    click.secho(f"{facts.pop('name')} · {facts.pop('state')}", bold=True)
    click.echo("\n".join(_lines(facts)))


@job_command
@click.argument("job")
def rerun(home: Path | None, as_json: bool, job: str) -> int:
    """Run a job again from its record, and tell whether the same came out (else exit code 3)."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook.job_keeping import rerun as run_again

    def tell(each: Any) -> None:
        if not as_json:
            click.echo(f"{each.name} ({each.id}) {each.state.value}", err=True)

    workspace = _workspace(home)
    again = run_again(workspace, _whole(workspace, job), on_change=tell)
    found = again.comparison
    if as_json:
        echo_json(
            {
                "job": again.first.id,
                "rerun": again.second.id,
                "same": found.is_same,
                "files": found.n_files,
                "difference": found.difference or None,
                "not_compared": list(found.not_compared),
                "changed": list(again.changed),
            }
        )
        return 0 if found.is_same else 3
    first, *others = repr(again).splitlines()
    click.secho(first, bold=True)
    click.echo("\n".join(others))
    return 0 if found.is_same else 3


@job_command
@click.option("--older-than", default="30 days", show_default=True, help="Such as '12 hours'.")
@click.option("--keep", help="Remove more, the oldest first, down to this size: '20 GiB'.")
@click.option("--results", is_flag=True, help="Also models of scripts, kept nowhere else.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
def clean(
    home: Path | None,
    as_json: bool,
    older_than: str,
    keep: str | None,
    results: bool,
    dry_run: bool,
) -> None:
    """Remove files of old jobs, and environments and downloads unused for as long.

    The records stay, and so does what a round under way or a running job needs.
    """
    from loopwright.cli.show import echo_json
    from loopwright.core.quantity import mebibytes, seconds
    from loopwright.notebook.job_keeping import clean as remove

    removed = remove(
        _workspace(home),
        older_than=timedelta(seconds=seconds(older_than, field="older-than")),
        most_bytes=mebibytes(keep, field="keep") << 20 if keep else None,
        with_results=results,
        dry_run=dry_run,
    )
    total = sum(each.n_bytes for each in removed)
    if as_json:
        echo_json(
            {
                "removed": [
                    {"what": each.what, "folder": str(each.folder), "bytes": each.n_bytes}
                    for each in removed
                ],
                "bytes": total,
                "dry_run": dry_run,
            }
        )
        return
    for each in removed:
        click.echo(f"{each.n_bytes / 2**20:10,.1f} MiB  {each.what}  {each.folder}")
    verb = "Would free" if dry_run else "Freed"
    click.echo(f"{verb} {total / 2**20:,.1f} MiB in {len(removed)} folders.")


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in facts.items():
        if value in (None, "", {}, [], ()):
            continue
        if isinstance(value, dict):
            lines.append(f"  {name}")
            lines += [f"    {key:<24} {each}" for key, each in value.items()]
            continue
        if isinstance(value, datetime):
            value = value.isoformat(sep=" ", timespec="milliseconds")
        elif isinstance(value, list | tuple):
            value = " ".join(map(str, value))
        first, *others = str(value).splitlines()
        lines += [f"  {name:<20} {first}", *(f"  {'':<20} {other}" for other in others)]
    return lines


@command
@click.argument("job")
@click.option("--follow", "-f", is_flag=True, help="Go on printing until the job ends.")
def logs(home: Path | None, as_json: bool, job: str, follow: bool) -> None:
    """Print the log of a job."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook.training_job import follow as follow_log

    workspace = _workspace(home)
    job = _whole(workspace, job)
    if follow and not as_json:
        for text in follow_log(workspace, job):
            click.echo(text, nl=False)
        return
    text = workspace.compute.log(job)
    if as_json:
        echo_json({"job": job, "log": text})
        return
    click.echo(text, nl=False)


@command
@click.argument("job")
@click.option(
    "--grace", "grace_s", default=10.0, show_default=True, help="Seconds to end by itself."
)
def stop(home: Path | None, as_json: bool, job: str, grace_s: float) -> None:
    """Stop a job (or `endpoint/NAME`): its whole process tree ends."""
    from loopwright.cli.show import echo_json

    workspace = _workspace(home)
    compute = workspace.compute
    stopped = compute.stop(_whole(workspace, job), grace_s=grace_s)
    if as_json:
        echo_json(_job(stopped))
        return
    click.echo(f"{stopped.name}: {stopped.state.value}")


def _whole(workspace: Any, typed: str) -> str:
    """Return the identifier of the job that was typed: part of it, or `endpoint/NAME`."""
    from loopwright.compute.identity import job_id_of

    service = workspace.compute.find(typed) if typed.startswith("endpoint/") else None
    return service.id if service else job_id_of(workspace.compute, typed)


def _job(job: Any) -> dict[str, Any]:
    from loopwright.notebook.training_job import cause, latest_metrics, ran_s

    return {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "state": job.state.value,
        "seconds": ran_s(job),
        "reason": cause(job),
        "metrics": latest_metrics(job.folder),
        "labels": job.labels,
        "folder": str(job.folder),
    }
