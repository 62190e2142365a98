"""Every artifact store keeps the same promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.store import ArtifactStore, MemoryArtifactStore, ObjectArtifactStore
from loopwright.testing import ArtifactStoreContract


class TestMemoryArtifactStore(ArtifactStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        return MemoryArtifactStore(tmp_path / "files")


class TestObjectArtifactStoreInAFolder(ArtifactStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        return ObjectArtifactStore(tmp_path / "a home" / "100%", tmp_path / "cache")


class TestObjectArtifactStoreAtAUrl(ArtifactStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        return ObjectArtifactStore("memory:///", tmp_path / "cache")
