"""Access keys from the command line: listed without secrets, made, and taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from botocore.exceptions import ClientError

from loopwright.core.clock import SystemClock
from loopwright.core.errors import NotFoundError
from loopwright.sagemaker.key import list_keys, new_key, revoke_key
from loopwright.store.memory import MemoryMetadataStore

from .conftest import Server


def keys(server: Server, *words: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "loopwright", "--home", str(server.home), "keys", *words, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "LOOPWRIGHT_USER": "ann"},
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def test_a_key_that_is_revoked_is_refused_at_once(server: Server) -> None:
    _, made = keys(server, "create", "ci")
    client = server.client(
        "sagemaker", aws_access_key_id=made["id"], aws_secret_access_key=made["secret"]
    )
    client.list_models()

    _, before = keys(server, "list")
    code, gone = keys(server, "revoke", made["id"])
    with pytest.raises(ClientError) as refused:
        client.list_models()

    assert code == 0
    assert gone == {"id": made["id"], "purpose": "ci"}
    assert made["secret"] not in json.dumps(before)
    assert {"id": made["id"], "purpose": "ci"}.items() <= next(
        each.items() for each in before if each["id"] == made["id"]
    )
    assert refused.value.response["Error"]["Code"] == "UnrecognizedClientException"
    assert keys(server, "revoke", made["id"])[0] != 0


def test_keys_are_listed_in_the_order_of_their_making() -> None:
    store = MemoryMetadataStore(SystemClock())
    made = [new_key(store, user="ann", purpose=each) for each in "abc"]

    revoke_key(store, made[1].id)

    assert [key.purpose for key, _ in list_keys(store)] == ["a", "c"]
    assert made[0].secret not in repr(list_keys(store))
    with pytest.raises(NotFoundError, match="no access key 'nobody'"):
        revoke_key(store, "nobody")
