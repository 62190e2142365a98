"""A part of the toolkit that ran the server; scripts import its name and do not use it."""

from __future__ import annotations

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"sagemaker_containers' transformer.{name} is not here: loopwright is the server"
    )
