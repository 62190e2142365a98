"""The model report in a notebook: a page that shows itself, with its values beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.loop.model_report import ModelReport, model_report
from loopwright.loop.report_page import report_page
from loopwright.notebook.display import Page

if TYPE_CHECKING:
    from loopwright.loop import Workspace


@dataclass(frozen=True, slots=True, repr=False)
class ModelPage(Page):
    """The page of a model report; `report` holds its values."""

    report: ModelReport

    def __repr__(self) -> str:
        return f"{self.report.loop}, round {self.report.round}: {self.report.headline.title}"


def model_page(workspace: Workspace, name: str, *, number: int | None = None) -> ModelPage:
    """Return the report on the model of a round; see `loopwright.loop.model_report`."""
    report = model_report(workspace, name, number=number)
    return ModelPage(html=report_page(report), report=report)
