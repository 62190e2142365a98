"""The command `labels`: ground truth taken in, and what is done about batches that look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.main import cli, command

if TYPE_CHECKING:
    from loopwright.loop.label_recall import Recall
    from loopwright.monitor import Suspect


class _Labels(click.Group):
    """A group that takes a file of labels where no command is named."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command named, or the one that takes labels in."""
        known = args and args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["add", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave options without a command to the one that takes labels in."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["add", *args]
        return super().parse_args(ctx, args)


@cli.group(name="labels", cls=_Labels)
def labels() -> None:
    """Take in ground truth: `loopwright labels loop.yaml truth.csv`."""


def _add(home: Path | None, as_json: bool, file: Path, labels_file: Path) -> None:
    """Take in ground truth: LABELS_FILE is CSV, Parquet or JSON lines of inference_id, label.

    Where monitor.labels.key names a business key, that column may stand for inference_id.
    """
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop, read_table

    count = Loop(file, home=home).add_labels(read_table(labels_file), source=labels_file.name)
    if as_json:
        echo_json({"n_labels": count})
        return
    click.echo(f"Took in {count:,} labels.")


def _list(home: Path | None, as_json: bool, file: Path) -> None:
    """Show the batches of labels that were held, oldest first."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    found = Loop(file, home=home).held_labels(everything=True)
    if as_json:
        echo_json([_json(each) for each in found])
    elif not found:
        click.echo("No labels were ever held.")
    else:
        for each in found:
            click.echo(f"{each.id}  {each.state:<8}  {each.told}")


def _accept(home: Path | None, as_json: bool, id_: str, file: Path, reason: str, name: str) -> None:
    """Let the held batch ID of labels count."""
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    _echo(loop.accept_labels(id_, reason=reason, name=name), as_json=as_json)


def _reject(home: Path | None, as_json: bool, id_: str, file: Path, reason: str, name: str) -> None:
    """Let the held batch ID of labels never count."""
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    _echo(loop.reject_labels(id_, reason=reason, name=name), as_json=as_json)


def _sources(home: Path | None, as_json: bool, file: Path) -> None:
    """Show who sent the labels that count, when, and how far predictions are from them."""
    import msgspec

    from loopwright.cli.show import echo_json, table
    from loopwright.notebook import Loop

    found = Loop(file, home=home).label_sources()
    if as_json:
        echo_json(msgspec.json.decode(msgspec.json.encode(found)))
    elif not found:
        click.echo("No label counts yet.")
    else:
        rows = [
            (
                each.source,
                each.n_labels,
                f"{each.from_at:%Y-%m-%d %H:%M}",
                f"{each.to_at:%Y-%m-%d %H:%M}",
                f"{each.mean_loss:.4g}",
            )
            for each in found
        ]
        click.echo(table(("source", "labels", "first (UTC)", "last (UTC)", "mean loss"), rows))


@click.option("--source", help="Whose labels, as `labels sources` names them.")
@click.option("--since", metavar="TIME", help="From when on they became known, in UTC.")
@click.option("--until", metavar="TIME", help="Until when they became known, in UTC.")
@click.option("--try", "try_only", is_flag=True, help="Only tell what it would come to.")
def _take_back(
    home: Path | None,
    as_json: bool,
    file: Path,
    source: str | None,
    since: str | None,
    until: str | None,
    reason: str,
    name: str,
    try_only: bool,
) -> None:
    """Let labels that counted count no more; quality is measured anew without them."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    recall = Loop(file, home=home).take_back_labels(
        source=source, since=since, until=until, reason=reason, name=name, try_only=try_only
    )
    if as_json:
        echo_json(recall.to_json())
        return
    for line in _told_recall(recall, file, try_only=try_only):
        click.echo(line)


def _told_recall(recall: Recall, file: Path, *, try_only: bool) -> list[str]:
    labels = recall.labels
    if try_only:
        lines = [f"{labels.n_rows:,} labels would be taken back; nothing was changed."]
    else:
        lines = [
            f"Took back {labels.n_rows:,} labels. `loopwright monitor {file}` measures quality "
            f"without them; `loopwright labels accept {labels.id} {file}` would undo it."
        ]
    for each in recall.models:
        where = ", which answers now" if each.is_live else ""
        lines.append(
            f"Version {each.version} (round {each.round}){where}: {each.n_labels:,} of them were "
            "among the rows it learnt from or was judged on."
        )
    if not recall.models:
        lines.append("No model has learnt from them.")
    return [*lines, *(each.replace("FILE", str(file)) for each in recall.advice)]


def _echo(suspect: Suspect, *, as_json: bool) -> None:
    from loopwright.cli.show import echo_json

    if as_json:
        echo_json(_json(suspect))
        return
    if suspect.taught:
        click.echo(f"Learnt from by version {', '.join(suspect.taught)}; `loopwright retrain`.")
    what = "count from the next look on" if suspect.state == "accepted" else "will never count"
    click.echo(f"The {suspect.n_rows:,} labels of {suspect.id} {what}.")


def _json(suspect: Suspect) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(suspect))
    return found


_file = click.argument("file", default="loop.yaml", type=click.Path(path_type=Path))
_id = click.argument("id_", metavar="ID")
_reason = click.option("--reason", default="", help="Why; kept on record.")
_name = click.option("--name", default="", help="Who says so; you by default.")
_labels_file = click.argument("labels_file", type=click.Path(path_type=Path))


def _as(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


command(_as("add", _file(_labels_file(_add))), labels)
command(_as("list", _file(_list)), labels)
command(_as("accept", _id(_file(_reason(_name(_accept))))), labels)
command(_as("reject", _id(_file(_reason(_name(_reject))))), labels)
command(_as("sources", _file(_sources)), labels)
command(_as("take-back", _file(_reason(_name(_take_back)))), labels)
