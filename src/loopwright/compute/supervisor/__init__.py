"""The supervising process of one job: holds it to its limits and writes down how it ended.

Standard library only and no import of the rest of loopwright, so that it starts in milliseconds
and cannot fail with it. Linux only: it reads `/proc` and becomes the parent of orphans.
"""
