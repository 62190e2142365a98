"""What a round keeps of the loop file it was run under, and what a change of it means."""

from __future__ import annotations

from typing import Any

from loopwright.core.digest import digest_value

# how a model is served and watched decides nothing about the model
_SERVING = frozenset({"deploy", "monitor", "retrain"})
# what is said of a problem, and what does not change what a model is judged by
_WORDS = frozenset({"question", "action", "today", "people", "test_rows"})

Spec = dict[str, Any]


def redacted(spec: Spec) -> Spec:
    """Return the spec without what may hold a secret: a source's address and options."""
    plain = {**spec, "data": _without_secrets(spec["data"])}
    labels = (spec.get("monitor") or {}).get("labels")
    if labels and labels.get("source"):
        plain["monitor"] = {**spec["monitor"], "labels": _without_secrets(labels)}
    return plain


def _without_secrets(block: Spec) -> Spec:
    source = {k: v for k, v in block["source"].items() if k not in ("url", "options")}
    return {**block, "source": source}


def changes(old: Spec, new: Spec) -> str:
    """Return the blocks that differ, in words."""
    keys = dict.fromkeys([*new, *old])
    changed = [
        "the data" if key == "snapshot" else key for key in keys if old.get(key) != new.get(key)
    ]
    return ", ".join(changed)


def asks_for_a_model(old: Spec, new: Spec) -> bool:
    """Tell whether what changed decides about the model, not only how it is served and watched."""
    return any(old.get(key) != new.get(key) for key in {*old, *new} - _SERVING)


def decision_digest(spec: Spec) -> str:
    """Return what tells decisions about models apart: the file without its words and its serving."""
    asked = {k: v for k, v in spec.items() if k not in _SERVING | {"name"}}
    problem = {k: v for k, v in spec["problem"].items() if k not in _WORDS}
    return digest_value({**asked, "problem": problem})
