import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from refusalscope.directions.direction import unit_direction
from refusalscope.interventions.operators import ablate_direction, add_direction


def _case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, 16, generator=generator), torch.randn(16, generator=generator)


def test_ablation_by_hand() -> None:
    found = ablate_direction(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 0.0]))
    assert found.tolist() == [[0.0, 4.0]]


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_ablation_is_orthogonal_idempotent_and_ignores_sign_and_length(seed: int) -> None:
    x, r = _case(seed)
    unit = unit_direction(r)
    once = ablate_direction(x, unit)
    assert (once @ unit).abs().max().item() < 1e-5
    torch.testing.assert_close(ablate_direction(once, unit), once, atol=1e-6, rtol=0)
    torch.testing.assert_close(ablate_direction(x, unit_direction(-3 * r)), once)


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_operators_leave_their_input_alone_and_commute_with_batching(seed: int) -> None:
    x, r = _case(seed)
    before, unit = x.clone(), unit_direction(r)
    for operator, parameter in ((ablate_direction, unit), (add_direction, r)):
        whole = operator(x, parameter)
        assert torch.equal(x, before)
        assert torch.equal(
            whole, torch.cat([operator(x[:1], parameter), operator(x[1:], parameter)])
        )


def test_each_row_gets_its_own_parameter() -> None:
    x, r = _case(1)
    unit = unit_direction(r)
    rows = torch.stack([unit, torch.zeros(16)])[:, None]
    found = ablate_direction(x, rows)
    assert torch.equal(found[0], ablate_direction(x[0], unit))
    assert torch.equal(found[1], x[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_activation_comes_back(dtype: torch.dtype) -> None:
    x, r = _case(2)
    assert ablate_direction(x.to(dtype), unit_direction(r)).dtype == dtype
    assert add_direction(x.to(dtype), r).dtype == dtype


def test_addition_by_hand() -> None:
    found = add_direction(torch.tensor([[1.0, 2.0]]), torch.tensor([0.5, -2.0]))
    assert found.tolist() == [[1.5, 0.0]]


def test_a_wrong_shape_raises_so_shape_checks_are_on(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("jaxtyping_packages"):
        pytest.skip("shapes are checked by scripts/test, which gives --jaxtyping-packages")
    with pytest.raises(TypeCheckError):
        ablate_direction(torch.ones(2, 3), torch.ones(4))
