"""What rows look like: a table goes in, a profile with findings and recommendations comes out."""

from loopwright.explore.column import Association, ColumnProfile, Kind
from loopwright.explore.finding import Finding
from loopwright.explore.mask import masked_value
from loopwright.explore.note import (
    ColumnNote,
    checked_note,
    list_notes,
    remove_note,
    save_note,
)
from loopwright.explore.page import profile_page, profile_summary
from loopwright.explore.personal import personal_data
from loopwright.explore.profile import Profile, profile
from loopwright.explore.spread import Histogram
from loopwright.explore.table import held_frame

__all__ = [
    "Association",
    "ColumnNote",
    "ColumnProfile",
    "Finding",
    "Histogram",
    "Kind",
    "Profile",
    "checked_note",
    "held_frame",
    "list_notes",
    "masked_value",
    "personal_data",
    "profile",
    "profile_page",
    "profile_summary",
    "remove_note",
    "save_note",
]
