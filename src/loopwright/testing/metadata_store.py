"""What every metadata store must do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotFoundError,
    WrongStateError,
)
from loopwright.store import MetadataStore


class MetadataStoreContract:
    """Tests of a `MetadataStore`.

    Derive from it and give a fixture `store`, empty and told the time by the fixture `clock`.
    """

    @pytest.fixture
    def clock(self) -> FixedClock:
        """Return the clock to build the store with."""
        return FixedClock()

    def test_a_created_record_is_read_back(self, store: MetadataStore, clock: FixedClock) -> None:
        body = {"name": "house prices", "shares": [0.7, 0.2], "note": None, "nested": {"é": "✓\0"}}

        created = store.create("loop", "houses", body)

        assert store.get("loop", "houses") == created
        assert (created.version, created.body) == (1, body)
        assert created.created_at == created.updated_at == clock.now()

    def test_create_refuses_a_taken_key_and_changes_nothing(self, store: MetadataStore) -> None:
        store.create("loop", "houses", {"round": 1})

        with pytest.raises(AlreadyExistsError, match="houses"):
            store.create("loop", "houses", {"round": 2})

        assert store.get("loop", "houses").body == {"round": 1}

    def test_the_same_key_may_name_things_of_two_kinds(self, store: MetadataStore) -> None:
        store.create("loop", "houses", {"a": 1})

        store.create("endpoint", "houses", {"b": 2})

        assert store.get("loop", "houses").body == {"a": 1}
        assert store.get("endpoint", "houses").body == {"b": 2}

    def test_get_names_the_nearest_key(self, store: MetadataStore) -> None:
        store.create("model", "churn", {})

        with pytest.raises(NotFoundError, match=r"no model 'chrun'.*Did you mean 'churn'\?"):
            store.get("model", "chrun")

    def test_find_returns_none_for_what_is_not_there(self, store: MetadataStore) -> None:
        assert store.find("loop", "houses") is None

    def test_list_returns_a_kind_in_key_order(self, store: MetadataStore) -> None:
        for key in ("b", "é", "a/2", "B", "a/1", "a"):
            store.create("loop", key, {})
        store.create("job", "aa", {})

        keys = [record.key for record in store.list_("loop")]

        assert keys == ["B", "a", "a/1", "a/2", "b", "é"]

    def test_list_keeps_to_a_prefix_whatever_characters_it_has(self, store: MetadataStore) -> None:
        for key in ("a_b/1", "a_b/2", "axb/1", "A_B/1", "a%", "a%1", "\U0010ffff", "\U0010ffffx"):
            store.create("loop", key, {})

        def listed(prefix: str) -> list[str]:
            return [record.key for record in store.list_("loop", prefix=prefix)]

        assert listed("a_b/") == ["a_b/1", "a_b/2"]
        assert listed("a%") == ["a%", "a%1"]
        assert listed("\U0010ffff") == ["\U0010ffff", "\U0010ffffx"]
        assert listed("z") == []

    def test_list_pages_through_everything_once(self, store: MetadataStore) -> None:
        keys = [f"{number:02d}" for number in range(10)]
        for key in keys:
            store.create("job", key, {})

        seen, after = [], ""
        while page := store.list_("job", after=after, limit=3):
            seen += [record.key for record in page]
            after = page[-1].key

        assert seen == keys

    def test_replace_stores_the_next_version(self, store: MetadataStore, clock: FixedClock) -> None:
        first = store.create("loop", "houses", {"round": 1})
        clock.advance(hours=1)

        second = store.replace(first, {"round": 2})

        assert store.get("loop", "houses") == second
        assert (second.version, second.body) == (2, {"round": 2})
        assert second.created_at == first.created_at
        assert second.updated_at == clock.now()

    def test_replace_refuses_a_stale_writer(self, store: MetadataStore) -> None:
        held = store.create("loop", "houses", {"round": 1})
        store.replace(held, {"round": 2})

        with pytest.raises(WrongStateError, match="at version 2, you hold version 1"):
            store.replace(held, {"round": 3})

        assert store.get("loop", "houses").body == {"round": 2}

    def test_replace_refuses_a_record_that_was_deleted(self, store: MetadataStore) -> None:
        held = store.create("loop", "houses", {})
        store.delete("loop", "houses")

        with pytest.raises(NotFoundError):
            store.replace(held, {})

    def test_replace_refuses_a_record_that_was_created_again(
        self, store: MetadataStore, clock: FixedClock
    ) -> None:
        held = store.create("loop", "houses", {})
        store.delete("loop", "houses")
        clock.advance(seconds=1)
        store.create("loop", "houses", {"new": True})

        with pytest.raises(WrongStateError):
            store.replace(held, {})

        assert store.get("loop", "houses").body == {"new": True}

    def test_put_creates_or_overwrites(self, store: MetadataStore, clock: FixedClock) -> None:
        first = store.put("loop", "houses", {"round": 1})
        clock.advance(hours=1)

        second = store.put("loop", "houses", {"round": 2})

        assert (first.version, second.version) == (1, 2)
        assert second == store.get("loop", "houses")
        assert (second.created_at, second.updated_at) == (first.created_at, clock.now())

    def test_delete_forgets_and_may_be_repeated(self, store: MetadataStore) -> None:
        store.create("loop", "houses", {})

        store.delete("loop", "houses")
        store.delete("loop", "houses")

        assert store.find("loop", "houses") is None

    def test_events_come_back_in_order(self, store: MetadataStore, clock: FixedClock) -> None:
        first = store.append("loop/houses", "started", {"round": 1})
        other = store.append("loop/churn", "started", {})
        clock.advance(minutes=5)
        second = store.append("loop/houses", "trained", {"models": 4})

        assert store.list_events("loop/houses") == [first, second]
        assert first.seq < other.seq < second.seq
        assert second.at == clock.now()

    def test_events_are_read_on_from_the_last_one_seen(self, store: MetadataStore) -> None:
        for number in range(7):
            store.append("s", "tick", {"n": number})

        seen, after = [], 0
        while page := store.list_events("s", after=after, limit=3):
            seen += [event.body["n"] for event in page]
            after = page[-1].seq

        assert seen == list(range(7))

    def test_a_transaction_keeps_everything(self, store: MetadataStore) -> None:
        with store.transaction():
            store.create("loop", "houses", {})
            store.append("s", "created", {})
            assert store.find("loop", "houses") is not None

        assert store.find("loop", "houses") is not None
        assert len(store.list_events("s")) == 1

    def test_a_failed_transaction_leaves_nothing(self, store: MetadataStore) -> None:
        kept = store.create("loop", "kept", {"round": 1})

        with pytest.raises(RuntimeError), store.transaction():  # noqa: PT012 the block is the test
            store.create("loop", "houses", {})
            store.replace(kept, {"round": 2})
            store.append("s", "created", {})
            store.delete("loop", "kept")
            raise RuntimeError

        assert store.list_("loop") == [kept]
        assert store.list_events("s") == []

    def test_an_inner_transaction_undoes_only_its_own_part(self, store: MetadataStore) -> None:
        with store.transaction():
            store.create("loop", "outer", {})
            with pytest.raises(RuntimeError), store.transaction():  # noqa: PT012 the block is the test
                store.create("loop", "inner", {})
                raise RuntimeError
            with store.transaction():
                store.create("loop", "second", {})

        assert [record.key for record in store.list_("loop")] == ["outer", "second"]

    def test_an_outer_failure_undoes_an_inner_transaction(self, store: MetadataStore) -> None:
        with pytest.raises(RuntimeError), store.transaction():  # noqa: PT012 the block is the test
            with store.transaction():
                store.create("loop", "inner", {})
            raise RuntimeError

        assert store.list_("loop") == []

    def test_a_transaction_goes_on_after_a_refusal(self, store: MetadataStore) -> None:
        store.create("loop", "houses", {})

        with store.transaction():
            with pytest.raises(AlreadyExistsError):
                store.create("loop", "houses", {})
            store.create("loop", "churn", {})

        assert len(store.list_("loop")) == 2

    def test_transactions_of_threads_take_turns(self, store: MetadataStore) -> None:
        store.create("counter", "n", {"n": 0})

        def count() -> None:
            for _ in range(10):
                with store.transaction():
                    record = store.get("counter", "n")
                    store.replace(record, {"n": record.body["n"] + 1})

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert store.get("counter", "n").body == {"n": 40}

    def test_a_record_does_not_change_with_the_body_it_was_made_of(
        self, store: MetadataStore
    ) -> None:
        body: dict[str, Any] = {"list": [1]}

        record = store.create("loop", "houses", body)
        body["list"].append(2)
        store.get("loop", "houses").body["list"].append(3)

        assert record.body == store.get("loop", "houses").body == {"list": [1]}

    def test_a_body_comes_back_as_json_keeps_it(self, store: MetadataStore) -> None:
        created = store.create("loop", "houses", {"pair": (1, 2), "big": 2**80, "tiny": 5e-324})

        assert created == store.get("loop", "houses")
        assert created.body == {"pair": [1, 2], "big": 2**80, "tiny": 5e-324}

    @pytest.mark.parametrize(
        "body", [{"x": float("nan")}, {"x": float("inf")}, {"x": b"bytes"}, {"x": {1, 2}}, ["list"]]
    )
    def test_a_body_that_json_cannot_say_is_refused(self, store: MetadataStore, body: Any) -> None:
        with pytest.raises(InvalidInputError, match="body"):
            store.create("loop", "houses", body)
        with pytest.raises(InvalidInputError, match="body"):
            store.append("s", "k", body)

        assert store.list_("loop") == []
        assert store.list_events("s") == []

    @pytest.mark.parametrize("key", ["", "a\0b", "line\nbreak", "\ud800", "x" * 501])
    def test_a_key_that_no_database_keeps_is_refused(self, store: MetadataStore, key: str) -> None:
        with pytest.raises(InvalidInputError, match="key"):
            store.put("loop", key, {})
        with pytest.raises(InvalidInputError, match="key"):
            store.find("loop", key)

    @pytest.mark.parametrize("limit", [0, -1, 10_001])
    def test_a_page_of_an_impossible_size_is_refused(
        self, store: MetadataStore, limit: int
    ) -> None:
        with pytest.raises(InvalidInputError, match="limit"):
            store.list_("loop", limit=limit)
        with pytest.raises(InvalidInputError, match="limit"):
            store.list_events("s", limit=limit)
