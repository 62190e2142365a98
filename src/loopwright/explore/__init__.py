"""What rows look like: a table goes in, a profile with findings and recommendations comes out."""

from loopwright.explore.column import Association, ColumnProfile, Histogram, Kind
from loopwright.explore.finding import Finding
from loopwright.explore.page import profile_page, profile_summary
from loopwright.explore.profile import Profile, profile

__all__ = [
    "Association",
    "ColumnProfile",
    "Finding",
    "Histogram",
    "Kind",
    "Profile",
    "profile",
    "profile_page",
    "profile_summary",
]
