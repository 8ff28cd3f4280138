"""Logistic regression in float64: convex, so the same numbers whatever it starts from."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Tried where validation data choose, on standardised channels."""
_STEPS = 200


def fit_logistic(
    harmful: Float[Tensor, "prompt d_model"],
    harmless: Float[Tensor, "other d_model"],
    *,
    penalty: float,
) -> tuple[Float[Tensor, " d_model"], float]:
    """Weights and bias of the log-odds of harmful, both kinds weighing the same.

    Minimises, by L-BFGS with a line search,

        (mean_harmful softplus(-z) + mean_harmless softplus(z)) / 2 + penalty |w|^2 / 2

    with z = w . x + b. The bias is not penalised. What is given should be standardised: the penalty
    is the same for every channel.
    """
    rows = (harmful.double(), harmless.double())
    parameters = torch.zeros(harmful.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=_STEPS,
        history_size=20,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        weight, bias = parameters[:-1], parameters[-1]
        ours, theirs = (own @ weight + bias for own in rows)
        loss = (softplus(-ours).mean() + softplus(theirs).mean()) / 2
        loss = loss + penalty / 2 * (weight**2).sum()
        loss.backward()
        return loss

    with torch.inference_mode(mode=False), torch.enable_grad():
        optimizer.step(closure)
    found = parameters.detach()
    return found[:-1].clone(), float(found[-1])
