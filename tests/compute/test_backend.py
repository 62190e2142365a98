"""Every compute backend keeps the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from loopwright.compute import Capacity, Compute, InlineCompute, LocalCompute
from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError
from loopwright.store import SqlMetadataStore
from loopwright.testing.background_compute import BackgroundComputeContract
from loopwright.testing.compute import ComputeContract, python

ROOM = Capacity(cpus=4, memory_mib=4096)


class TestInlineCompute(ComputeContract):
    @pytest.fixture
    def compute(self, tmp_path: Path) -> Compute:
        return InlineCompute(tmp_path / "jobs", SystemClock(), capacity=ROOM)

    def test_a_service_is_refused(self, compute: Compute) -> None:
        with pytest.raises(InvalidInputError, match="Use LocalCompute for services"):
            compute.submit(python("", counted=False))


class TestLocalCompute(BackgroundComputeContract):
    @pytest.fixture
    def compute(self, tmp_path: Path) -> Iterator[Compute]:
        clock = SystemClock()
        with closing(SqlMetadataStore(f"sqlite:///{tmp_path}/store.db", clock)) as metadata:
            yield LocalCompute(metadata, tmp_path / "a home" / "jobs", clock, capacity=ROOM)

    @pytest.fixture
    def opening(self, tmp_path: Path) -> str:
        return f"""
from pathlib import Path
from loopwright.compute import Capacity, LocalCompute
from loopwright.core.clock import SystemClock
from loopwright.store import SqlMetadataStore
home = Path({str(tmp_path)!r})
metadata = SqlMetadataStore(f"sqlite:///{{home}}/store.db", SystemClock())
capacity = Capacity(cpus=4, memory_mib=4096)
compute = LocalCompute(metadata, home / "a home" / "jobs", SystemClock(), capacity=capacity)
"""
