import gc
import weakref

import pytest
import torch

from refusalscope.engine.halving import in_halves
from refusalscope.errors import InputError


def test_a_batch_that_does_not_fit_is_halved_until_it_does(caplog):
    tried = []

    def run(rows):
        tried.append(list(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("no room")
        return sum(rows)

    assert in_halves([1, 2, 3, 4, 5], run, what="numbers") == [3, 3, 9]
    assert tried == [[1, 2, 3, 4, 5], [1, 2], [3, 4, 5], [3], [4, 5]]
    assert "a batch of 5 numbers did not fit into memory; it is halved" in caplog.text


def test_nothing_of_a_failed_batch_is_alive_when_its_halves_are_begun():
    left: list[weakref.ref[torch.Tensor]] = []
    alive = []
    gc.disable()
    try:

        def run(rows):
            alive.append(sum(one() is not None for one in left))
            state = torch.zeros(len(rows))
            left.append(weakref.ref(state))
            if len(rows) > 1:
                raise torch.OutOfMemoryError("no room")
            return int(state.numel())

        assert in_halves(range(4), run, what="rows") == [1, 1, 1, 1]
    finally:
        gc.enable()
    assert alive == [0] * 7


def test_a_row_that_does_not_fit_alone_is_one_line():
    def run(_rows):
        raise torch.OutOfMemoryError("tried to allocate 3 GiB\nof 2")

    with pytest.raises(
        InputError, match=r"one of the prompts .* \(tried to allocate 3 GiB\); load"
    ):
        in_halves([1, 2], run, what="prompts")


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you",
        "MPS backend out of memory (MPS allocated: 5 GB)",
    ],
)
def test_devices_that_say_it_in_words_are_understood_and_other_errors_are_not_caught(said):
    def run(rows):
        if len(rows) > 1:
            raise RuntimeError(said)
        return rows[0]

    assert in_halves([1, 2], run, what="numbers") == [1, 2]

    def fail(_rows):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_halves([1, 2], fail, what="numbers")
