"""Ground truth of a loop: labels taken in, those that were held, and quality over time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.loop.workspace import Workspace, locked_loop
from loopwright.notebook.home import existing_workspace
from loopwright.notebook.label_rows import label_pairs
from loopwright.notebook.row import as_rows, number
from loopwright.settings import Settings

if TYPE_CHECKING:
    from loopwright.loop.file import ReadFile
    from loopwright.loop.label_recall import LabelSource, Recall
    from loopwright.monitor import Suspect


class LoopTruth:
    """What turned out to be true, and what became of it; a side of `Loop`."""

    settings: Settings
    read: ReadFile

    def add_labels(self, labels: Mapping[str, Any] | Any, *, source: str = "python") -> int:
        """Take in ground truth and return how many labels it was.

        Parameters
        ----------
        labels
            A mapping from inference id to what turned out to be true, or a table with the columns
            `inference_id` and `label`. Where `monitor.labels.key` names a business key, a table may
            have that column in place of `inference_id`. A column `at` says when each became known;
            without it that is now, and a time in the future is now, too.
        source
            Where they come from; kept with every label.
        """
        from loopwright.deploy import add_labels

        content = self.read.content
        if content.deploy is None:
            raise WrongStateError(
                f"The loop {content.name!r} has no endpoint, so nothing was predicted.",
                hint="Add a deploy block to the loop file.",
            )
        workspace = existing_workspace(self.settings)
        plan = content.monitor.labels
        key = plan.key if plan is not None else "inference_id"
        now = workspace.clock.now()
        if isinstance(labels, Mapping):
            pairs, by_key, at = list(labels.items()), False, [now] * len(labels)
        else:
            pairs, by_key, at = label_pairs(as_rows(labels), key=key, now=now)
        record = workspace.metadata.get("source", content.name)
        task = str(record.body["target"]["task"])
        if task == "regression":
            pairs = [(each, number(label)) for each, label in pairs]
        return add_labels(
            workspace.endpoint_folder(content.deploy.endpoint),
            pairs,
            task=task,
            at=at,
            source=source,
            by_key=by_key,
        )

    def held_labels(self, *, everything: bool = False) -> list[Suspect]:
        """Return the batches of labels that wait for a person; or all that were ever held."""
        from loopwright.loop.label_review import list_suspects

        found = list_suspects(existing_workspace(self.settings), self.read.content.name)
        return [each for each in found if everything or each.state == "open"]

    def accept_labels(self, id_: str, *, reason: str = "", name: str = "") -> Suspect:
        """Let a held batch of labels count from the next look on, and return what was recorded.

        Parameters
        ----------
        id_
            Its id, or the beginning of it.
        reason
            Why; kept on record.
        name
            Who says so; you when empty.
        """
        return self._decide(id_, accept=True, reason=reason, name=name)

    def reject_labels(self, id_: str, *, reason: str, name: str = "") -> Suspect:
        """Let a held batch of labels never count, and return what was recorded.

        Parameters
        ----------
        id_, name
            See `accept_labels`.
        reason
            Why; needed.
        """
        return self._decide(id_, accept=False, reason=reason, name=name)

    def label_sources(self) -> list[LabelSource]:
        """Return who has sent the labels that count, when, and how they agree with predictions."""
        from loopwright.loop.label_recall import label_sources

        return label_sources(existing_workspace(self.settings), self.read.content)

    def take_back_labels(
        self,
        *,
        source: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        reason: str,
        name: str = "",
        try_only: bool = False,
    ) -> Recall:
        """Let labels that counted count no more, and return which models had learnt from them.

        What comes later for the same predictions counts. The next look measures quality anew.

        Parameters
        ----------
        source
            Whose labels, as `label_sources` names them; None for everybody's.
        since, until
            From when to when the labels became known, both included: an aware time, or text in
            ISO 8601, in UTC where it names no zone. None for no bound.
        reason
            Why; kept on record.
        name
            Who says so; you when empty.
        try_only
            Whether only to tell what it would come to.
        """
        from loopwright.loop.label_recall import recalled, take_back_labels

        workspace = existing_workspace(self.settings)
        with locked_loop(workspace.home, self.read.content.name):
            recall = recalled(
                workspace,
                self.read.content,
                source=source,
                since=_moment(since, "since"),
                until=_moment(until, "until"),
                reason=reason,
                by=name,
            )
            if not try_only:
                take_back_labels(workspace, self.read.content, recall)
        return recall

    def timeline(
        self, *, version: str | None = None, segment: str = "", since: datetime | None = None
    ) -> list[dict[str, Any]]:
        """Return quality and drift over time, one entry an hour, or a day after five weeks.

        Parameters
        ----------
        version
            A model version; by default the champion.
        segment
            A watched segment; by default all rows.
        since
            From the window on that this moment lies in.
        """
        import msgspec

        from loopwright.loop import live_statistics
        from loopwright.monitor import Reference
        from loopwright.train import open_bundle

        workspace, name = existing_workspace(self.settings), self.read.content.name
        champion = workspace.metadata.find("champion", name)
        if champion is None:
            raise WrongStateError(f"The loop {name!r} has no model yet.", hint="Run it first.")
        model = open_bundle(workspace.artifacts.local_path(champion.body["bundle"]))
        return live_statistics.timeline(
            workspace,
            name,
            Reference.from_json(msgspec.json.decode(model.read_member("reference.json"))),
            version=version or str(champion.body["version"]),
            segment=segment,
            since=since,
        )

    def _decide(self, id_: str, *, accept: bool, reason: str, name: str) -> Suspect:
        from loopwright.loop.label_recall import recall_of
        from loopwright.loop.label_review import decide_labels, get_suspect

        workspace: Workspace = existing_workspace(self.settings)
        content = self.read.content
        with locked_loop(workspace.home, content.name):
            taught: tuple[str, ...] = ()
            suspect = get_suspect(workspace, content.name, id_)
            if suspect.state == "accepted" and not accept:
                taught = recall_of(workspace, content, suspect).labels.taught
            return decide_labels(
                workspace, content, id_, accept=accept, reason=reason, by=name, taught=taught
            )


def _moment(value: datetime | str | None, field: str) -> datetime | None:
    """Return a time as a person gives it, aware.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidInputError(
                f"{value!r} is not a time.",
                hint="Write it as 2026-05-02, or 2026-05-02T14:30.",
                field=field,
                value=value,
            ) from error
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value
