"""Contract suites: what every implementation of a protocol must pass, ours and an extension's."""

from loopwright.testing.artifact_store import ArtifactStoreContract
from loopwright.testing.compute import ComputeContract
from loopwright.testing.metadata_store import MetadataStoreContract

__all__ = ["ArtifactStoreContract", "ComputeContract", "MetadataStoreContract"]
