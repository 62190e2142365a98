"""S3 through the gateway when its buckets are in another store.

The store is a second server of ours, which checks every signature that the first one makes; the tests
of the embedded store are run again as they are.
"""

# ruff: noqa: F401 the tests are collected here

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Server, key_for, started
from .test_s3_objects import (
    box,
    refusal,
    test_a_body_that_does_not_match_what_was_said_of_it_is_not_kept,
    test_a_checksum_that_cannot_be_compared_is_refused,
    test_a_copy_is_an_object_of_its_own,
    test_a_key_may_be_any_text_and_never_leads_anywhere,
    test_a_kind_of_checksum_that_an_algorithm_does_not_have_is_refused,
    test_a_presigned_address_ends,
    test_a_range_beyond_the_end_is_refused,
    test_a_range_of_an_object,
    test_an_object_and_a_folder_may_have_one_name,
    test_an_object_comes_back_as_it_was_put_with_all_that_was_said_of_it,
    test_an_upload_in_parts,
    test_an_upload_in_parts_is_compared_with_the_checksum_of_the_whole,
    test_another_account_is_not_the_owner,
    test_buckets_are_made_found_and_deleted_once_they_are_empty,
    test_checksums_are_kept_and_told,
    test_chunks_with_a_checksum_at_the_end,
    test_conditions_of_reads_and_writes,
    test_hostile_keys_are_names_and_no_paths,
    test_large_files_go_both_ways_in_parts_and_through_little_memory,
    test_listings_page_through_folders_in_the_order_of_bytes,
    test_many_objects_are_deleted_at_once,
    test_names_that_no_bucket_can_have,
    test_parts_that_are_too_small_missing_or_out_of_order,
    test_presigned_addresses,
    test_the_checksums_of_newer_clients_are_compared_and_told,
    test_what_is_not_supported_says_so,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return the server that is the store."""
    home = tmp_path_factory.mktemp("store") / "home"
    home.mkdir(mode=0o700)
    with started(home) as (process, url):
        yield Server(url=url, home=home, key=key_for(home), pid=process.pid)


@pytest.fixture(scope="module")
def server(store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return the server whose buckets are in the store."""
    home = tmp_path_factory.mktemp("before") / "home"
    home.mkdir(mode=0o700)
    keys = {"AWS_ACCESS_KEY_ID": store.key.id, "AWS_SECRET_ACCESS_KEY": store.key.secret}
    with started(home, arguments=("--s3", store.url), **keys) as (process, url):
        yield Server(url=url, home=home, key=key_for(home), pid=process.pid)


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    """Return a client of the server in front."""
    return server.client("s3")
