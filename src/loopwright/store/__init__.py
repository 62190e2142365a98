"""What is remembered: records and events of the loop, and the bytes it keeps by their digest."""

from loopwright.store.artifact import ArtifactStore
from loopwright.store.memory import MemoryArtifactStore, MemoryMetadataStore
from loopwright.store.metadata import Event, MetadataStore, Record
from loopwright.store.objects import ObjectArtifactStore
from loopwright.store.sql import SqlMetadataStore

__all__ = [
    "ArtifactStore",
    "Event",
    "MemoryArtifactStore",
    "MemoryMetadataStore",
    "MetadataStore",
    "ObjectArtifactStore",
    "Record",
    "SqlMetadataStore",
]
