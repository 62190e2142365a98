"""One process that looks after all loops of a home, on their schedules, and says how they are."""

from loopwright.server.process import ServerPlan, serve

__all__ = ["ServerPlan", "serve"]
