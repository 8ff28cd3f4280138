import threading

import pytest

from refusalscope.pipeline.gathered import GatheredBatches


def test_what_comes_within_the_wait_shares_a_batch_and_keeps_its_order() -> None:
    sizes: list[int] = []

    def answer(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        return [10 * question for question in batch]

    gathered = GatheredBatches(answer, size=8, wait=0.5)
    futures = [gathered.ask(question) for question in range(20)]
    assert [future.result(timeout=20) for future in futures] == [10 * i for i in range(20)]
    assert sizes == [8, 8, 4]


def test_one_thread_answers_everything() -> None:
    threads: set[int] = set()

    def answer(batch: list[int]) -> list[int]:
        threads.add(threading.get_ident())
        return batch

    gathered = GatheredBatches(answer, size=1)
    futures = [gathered.ask(question) for question in range(5)]
    assert [future.result(timeout=20) for future in futures] == list(range(5))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_reaches_each_that_waits_and_the_next_batch_is_answered() -> None:
    def answer(batch: list[int]) -> list[int]:
        if 0 in batch:
            raise ValueError("nothing to divide by")
        return batch

    gathered = GatheredBatches(answer, size=2, wait=0.5)
    futures = [gathered.ask(question) for question in (0, 1, 2, 3)]
    for future in futures[:2]:
        with pytest.raises(ValueError, match="nothing to divide by"):
            future.result(timeout=20)
    assert [future.result(timeout=20) for future in futures[2:]] == [2, 3]
