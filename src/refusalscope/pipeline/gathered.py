"""Questions that come one by one, gathered into batches and answered by one thread."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class GatheredBatches(Generic[Q, A]):
    """Answers questions in batches of what arrives within a short while.

    One thread answers, so that what it works with (a model under hooks) is never used twice at
    once. An error of a batch is the answer to each of its questions.

    Args:
        answer: The answers to a batch, in its order.
        size: Questions of a batch at most.
        wait: Seconds that the first question of a batch waits for others.
    """

    def __init__(
        self, answer: Callable[[list[Q]], list[A]], *, size: int, wait: float = 0.02
    ) -> None:
        self._answer = answer
        self._size = size
        self._wait = wait
        self._open: queue.SimpleQueue[tuple[Q, Future[A]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, question: Q) -> Future[A]:
        """The answer as it comes."""
        future: Future[A] = Future()
        self._open.put((question, future))
        return future

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            try:
                answers = self._answer([question for question, _ in batch])
            except Exception as error:  # whatever it is, each that waits must hear of it
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    future.set_result(answer)

    def _next_batch(self) -> list[tuple[Q, Future[A]]]:
        batch = [self._open.get()]
        end = time.monotonic() + self._wait
        while len(batch) < self._size:
            try:
                batch.append(self._open.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                break
        return batch
