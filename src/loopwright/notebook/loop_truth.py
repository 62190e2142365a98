"""Ground truth of a loop: labels taken in, those that were held, and quality over time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import WrongStateError
from loopwright.loop.workspace import Workspace, locked_loop
from loopwright.notebook.home import existing_workspace
from loopwright.notebook.label_rows import label_pairs
from loopwright.notebook.row import as_rows, number
from loopwright.settings import Settings

if TYPE_CHECKING:
    from loopwright.loop.file import ReadFile
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
        from loopwright.loop.label_review import decide_labels

        workspace: Workspace = existing_workspace(self.settings)
        with locked_loop(workspace.home, self.read.content.name):
            return decide_labels(
                workspace, self.read.content, id_, accept=accept, reason=reason, by=name
            )
