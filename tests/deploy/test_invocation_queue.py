"""What was kept is answered once, whatever happens to the processes that work on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.errors import AlreadyExistsError, BackendError
from loopwright.deploy.invocation_queue import (
    Claimed,
    FullQueueError,
    InvocationQueue,
    PostponedRequest,
    QueueLimits,
    postponed,
)
from loopwright.deploy.message import Response


def head(inference_id: str = "a", *, body: bytes = b"{}", **more: Any) -> PostponedRequest:
    facts = {"is_given": True, "headers": {"content-type": "application/json"}, "query": ""}
    return postponed(inference_id=inference_id, body=body, **(facts | more))


def put(queue: InvocationQueue, inference_id: str = "a", *, body: bytes = b"{}") -> str:
    made = head(inference_id, body=body)
    queue.put(made, body)
    return made.id


def claimed(queue: InvocationQueue) -> Claimed:
    found = queue.claim()
    assert found is not None
    return found


def test_an_answer_is_found_under_the_id_of_its_request(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path)
    request_id = put(queue, body=b'{"n":\n1}')
    before = queue.find(request_id)

    work = claimed(queue)
    answer = Response(200, b"1\n2", b"text/csv", headers=b"x-inference-id: a\r\n")
    queue.finish(work, answer)

    assert before == "waiting"
    assert (work.head.inference_id, work.body, work.n_tries) == ("a", b'{"n":\n1}', 1)
    assert queue.find(request_id) == answer
    assert queue.claim() is None
    assert not list((tmp_path / "waiting").iterdir())


@pytest.mark.parametrize("request_id", ["0" * 32, "../../etc/passwd", "", "A" * 32])
def test_an_unknown_id_finds_nothing(tmp_path: Path, request_id: str) -> None:
    assert InvocationQueue(tmp_path).find(request_id) is None


def test_the_same_request_twice_is_kept_and_answered_once(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path)

    ids = {put(queue), put(queue)}
    queue.finish(claimed(queue), Response(200, b"1"))
    ids.add(put(queue))

    assert len(ids) == 1
    assert queue.claim() is None


def test_another_request_under_the_same_id_is_refused(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path)
    put(queue)

    with pytest.raises(AlreadyExistsError):
        put(queue, body=b"[]")


def test_without_an_id_two_equal_requests_are_two() -> None:
    assert head(is_given=False).id != head(is_given=False).id


def test_what_one_works_on_no_other_takes_until_it_ends(tmp_path: Path) -> None:
    one, other = InvocationQueue(tmp_path), InvocationQueue(tmp_path)
    put(one)

    work = claimed(one)
    meanwhile = other.claim()
    one.release(work)
    again = claimed(other)

    assert meanwhile is None
    assert again.n_tries == 2
    other.release(again)


def test_the_oldest_is_answered_first(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path)
    for number, name in enumerate("cab"):
        path = tmp_path / "waiting" / f"{put(queue, name)}.request"
        os.utime(path, ns=(number, number))

    works = [claimed(queue) for _ in range(3)]

    assert [work.head.inference_id for work in works] == ["c", "a", "b"]
    for work in works:
        queue.release(work)


def test_a_process_that_ended_after_the_answer_leaves_nothing_to_do(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path)
    request_id = put(queue)
    path = tmp_path / "waiting" / f"{request_id}.request"
    before = path.read_bytes()
    queue.finish(claimed(queue), Response(200, b"first"))
    path.write_bytes(before)

    found = InvocationQueue(tmp_path).claim()

    assert found is None
    assert not path.exists()
    assert queue.find(request_id) == Response(200, b"first")


def test_an_answer_is_never_replaced(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path)
    request_id = put(queue)
    work = claimed(queue)
    late = Claimed(head=work.head, body=b"", n_tries=1, descriptor=os.dup(work.descriptor))

    queue.finish(work, Response(200, b"first"))
    queue.finish(late, Response(200, b"second"))

    assert queue.find(request_id) == Response(200, b"first")


def test_a_request_that_ends_every_process_is_given_up(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path, limits=QueueLimits(max_tries=2))
    request_id = put(queue)
    for _ in range(2):
        queue.release(claimed(queue))

    found = queue.claim()

    assert found is None
    answer = queue.find(request_id)
    assert isinstance(answer, Response)
    assert answer.status == 500
    assert b"ended 2 times" in answer.body


def test_too_many_and_too_large_requests_are_refused(tmp_path: Path) -> None:
    few = InvocationQueue(tmp_path / "few", limits=QueueLimits(max_waiting=1))
    small = InvocationQueue(tmp_path / "small", limits=QueueLimits(max_waiting_bytes=10))
    put(few, "a")

    with pytest.raises(FullQueueError):
        put(few, "b")
    with pytest.raises(FullQueueError):
        put(small, "a", body=b"x" * 11)
    assert put(few, "a")  # it is there already


def test_old_answers_are_forgotten(tmp_path: Path) -> None:
    queue = InvocationQueue(tmp_path, limits=QueueLimits(max_kept=2))
    ids = []
    for number in range(65):
        ids.append(put(queue, str(number)))
        queue.finish(claimed(queue), Response(200, b"1"))

    assert queue.find(ids[0]) is None
    assert isinstance(queue.find(ids[-1]), Response)
    assert len(list((tmp_path / "answers").iterdir())) == 2


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "waiting").write_text("in the way")

    with pytest.raises(BackendError) as caught:
        put(InvocationQueue(tmp_path))

    assert caught.value.retryable
