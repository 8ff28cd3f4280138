"""The run that checks shapes does check them: without it annotations of tensors are words."""

import pytest
import torch
from jaxtyping import TypeCheckError

from refusalscope.metrics.kl import kl_divergence


def test_a_tensor_of_another_shape_is_an_error(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("jaxtyping_packages"):
        pytest.skip("shapes are checked by scripts/test, which gives --jaxtyping-packages")
    with pytest.raises(TypeCheckError):
        kl_divergence(torch.randn(3, 5), torch.randn(3, 7))
