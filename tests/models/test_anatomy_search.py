"""The sparsest exact sum recovers what was planted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.models.anatomy_search import is_exact, sparsest_exact_sum


def tensors(seed: int, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(12, 16, generator=generator) for _ in range(count)]


@given(seed=st.integers(0, 2**32 - 1), chosen=st.sets(st.integers(0, 7), min_size=1, max_size=4))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_a_planted_sum_is_recovered_with_its_coefficients(seed: int, chosen: set[int]) -> None:
    stream, *candidates = tensors(seed, 9)
    target = stream
    for place, index in enumerate(sorted(chosen)):
        target = target + (0.5 + place) * candidates[index]
    found = sparsest_exact_sum(target, candidates, stream=stream)
    assert is_exact(found)
    assert found.indices == tuple(sorted(chosen))
    assert found.coefficients == tuple(0.5 + place for place in range(len(chosen)))
    assert found.carry == 1.0


def test_a_scaled_stream_is_found_only_when_no_plain_sum_fits() -> None:
    stream, one, other = tensors(0, 3)
    found = sparsest_exact_sum(0.25 * stream + other, [one, other], stream=stream)
    assert (found.indices, found.carry) == ((1,), 0.25)


def test_what_is_no_sum_of_the_candidates_is_not_exact() -> None:
    stream, one, other = tensors(0, 3)
    assert not is_exact(sparsest_exact_sum(stream + one.tanh(), [one, other], stream=stream))


def test_a_module_and_one_inside_it_are_never_taken_together() -> None:
    one, other = tensors(0, 2)
    found = sparsest_exact_sum(one + other, [one, other], excluded=[(0, 1)])
    assert not is_exact(found)


@pytest.mark.parametrize("size", [0.1, 0.01, 0.002])
def test_bfloat16_does_not_hide_a_small_writer_nor_do_huge_activations(size: float) -> None:
    stream, *outputs = tensors(0, 5)
    stream[0] *= 100
    stream[:, 3] *= 50
    candidates = [(size * output).bfloat16() for output in outputs]
    candidates[2] = (10 * candidates[2].float()).bfloat16()
    target = (stream.bfloat16() + candidates[0]) + candidates[2]
    found = sparsest_exact_sum(target, candidates, stream=stream.bfloat16())
    assert is_exact(found)
    assert (found.indices, found.coefficients) == ((0, 2), (1.0, 1.0))


def test_bfloat16_sums_are_exact_up_to_their_own_rounding() -> None:
    stream, one, other = (value.bfloat16() for value in tensors(0, 3))
    target = (stream + one) + other
    found = sparsest_exact_sum(target, [one, other], stream=stream)
    assert is_exact(found)
    assert (found.indices, found.coefficients) == ((0, 1), (1.0, 1.0))
    assert not is_exact(sparsest_exact_sum(target, [one], stream=stream))
