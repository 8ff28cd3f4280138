"""Taking out what directions span, some rows at a time, and measuring what is left."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refusalscope.weights import span
from refusalscope.weights.span import (
    AlongSpan,
    Rows,
    along_span,
    measure_span,
    remove_span,
    rows_in_memory,
    without_span,
)

SHAPES = [((16, 12), 0), ((12, 16), 1), ((3, 16, 5), 1), ((3, 5, 16), 2), ((16,), 0), ((16, 1), 0)]


def basis(n_directions: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(16, n_directions, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(drawn).Q.T.contiguous()


def weight_of(shape: tuple[int, ...], *, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def measured(weight: Tensor, axis: int, unit: Tensor) -> AlongSpan:
    rows = Rows.of(tuple(weight.shape), axis)
    return measure_span(rows_in_memory(weight, rows), rows, unit)


@pytest.mark.parametrize(("case", "n_directions"), list(product(SHAPES, (1, 3))))
def test_it_is_the_dense_projection_on_any_axis(
    case: tuple[tuple[int, ...], int], n_directions: int
) -> None:
    (shape, axis), unit = case, basis(n_directions)
    weight = weight_of(shape)
    before = weight.clone()
    edited = without_span(weight, unit, axis=axis, strength=0.7)
    rows = weight.double().movedim(axis, -1)
    expected = (rows - 0.7 * (rows @ unit.T) @ unit).movedim(-1, axis)
    torch.testing.assert_close(edited.double(), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(weight, before)
    found = measured(weight, axis, unit)
    assert found.size == pytest.approx(float((rows @ unit.T).norm()), rel=1e-5)
    assert found.norm == pytest.approx(float(weight.norm()), rel=1e-5)
    assert torch.equal(weight, before), "measuring changes nothing"


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_along_is_u_w_with_the_other_axes_in_their_order(shape: tuple[int, ...], axis: int) -> None:
    weight, unit = weight_of(shape), basis(2)
    rows = Rows.of(shape, axis)
    found = along_span(rows_in_memory(weight, rows), rows, unit)
    expected = unit.float() @ weight.movedim(axis, 0).reshape(16, -1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axis: int
) -> None:
    weight, unit = weight_of(shape), basis(2)
    whole, size = without_span(weight, unit, axis=axis), measured(weight, axis, unit).size
    monkeypatch.setattr(span, "CHUNK", 24)
    torch.testing.assert_close(without_span(weight, unit, axis=axis), whole)
    assert measured(weight, axis, unit).size == pytest.approx(size, rel=1e-5)


def test_the_edit_reports_what_was_and_what_is_along() -> None:
    weight, unit = weight_of((16, 12)), basis(2)
    rows = Rows.of((16, 12), 0)
    written: list[Tensor] = []
    done = remove_span(
        rows_in_memory(weight, rows),
        lambda _start, chunk: written.append(chunk.clone()),
        rows,
        unit,
        strength=0.5,
    )
    edited = torch.cat(written)
    assert done.before == pytest.approx(float((unit.float() @ weight).norm()), rel=1e-5)
    assert done.after.size == pytest.approx(float((unit.float() @ edited).norm()), rel=1e-5)
    assert done.after.size == pytest.approx(0.5 * done.before, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(seed=st.integers(0, 2**32 - 1), n_columns=st.sampled_from([1, 4, 300]))
@settings(deadline=None, derandomize=True, max_examples=25)
def test_what_rounding_leaves_is_within_its_bound_and_not_far_below(
    dtype: torch.dtype, seed: int, n_columns: int
) -> None:
    weight = weight_of((16, n_columns), seed=seed).to(dtype)
    unit = basis(1, seed=seed)
    found = measured(without_span(weight, unit, axis=0), 0, unit)
    assert found.size <= found.rounding
    if n_columns == 300:
        assert found.size > 0.005 * found.rounding


def test_a_component_that_was_not_removed_is_far_above_the_bound() -> None:
    weight, unit = weight_of((16, 300)).bfloat16(), basis(1)
    found = measured(weight, 0, unit)
    assert found.size > 30 * found.rounding


def test_float64_is_computed_in_float64() -> None:
    weight, unit = weight_of((16, 12)).double(), basis(1)
    edited = without_span(weight, unit, axis=0)
    assert float((unit @ edited).abs().max()) < 1e-14
