"""Which layer and penalty a monitor has: what tells validation prompts apart best."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import NumericalError
from refusalscope.metrics.auroc import auroc
from refusalscope.monitors.logistic import PENALTIES
from refusalscope.monitors.readout import Readout, differ, fit_readout
from refusalscope.results.monitor_records import LayerChoice, MonitorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Activations of both kinds of prompts, by layer.

    Of a model under several conditions the rows of each follow those of the one before.
    """

    harmful: Float[Tensor, "prompt layer d_model"]
    harmless: Float[Tensor, "other layer d_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A readout with how well it told validation prompts apart."""

    readout: Readout
    choice: LayerChoice


def fit_layers(
    kind: MonitorKind, *, train: Rows, val: Rows, layers: Sequence[int]
) -> dict[int, Fitted]:
    """The best readout of each layer: of the logistic kinds, of several penalties.

    A layer at which both kinds are alike is left out: what stands at a token of the template
    before any layer has looked at the instruction.

    Raises:
        NumericalError: both kinds are alike at every layer.
    """
    penalties = PENALTIES if kind in ("logistic", "sliding") else (None,)
    found = {}
    for column, layer in enumerate(layers):
        if not differ(train.harmful[:, column], train.harmless[:, column]):
            continue
        fits = []
        for penalty in penalties:
            readout = fit_readout(
                kind,
                harmful=train.harmful[:, column],
                harmless=train.harmless[:, column],
                penalty=penalty,
            )
            choice = judged(
                readout.score(val.harmful[:, column]),
                readout.score(val.harmless[:, column]),
                layer=layer,
                penalty=penalty,
            )
            fits.append(Fitted(readout=readout, choice=choice))
        found[layer] = max(fits, key=lambda fit: rank(fit.choice))
    if not found:
        raise NumericalError(
            f"what is read of {len(train.harmful)} harmful and {len(train.harmless)} harmless "
            f"prompts has the same mean at each of {len(layers)} layers, so nothing can be fitted; "
            f"read another token, site or layer"
        )
    return found


def judged(
    harmful: Float[Tensor, " prompt"],
    harmless: Float[Tensor, " other"],
    *,
    layer: int,
    penalty: float | None,
) -> LayerChoice:
    """How far apart validation scores are: AUROC, and d' where that does not tell them any more.

    d' = (mean_harmful - mean_harmless) / sqrt((var_harmful + var_harmless) / 2)
    """
    spread = ((harmful.var(correction=0) + harmless.var(correction=0)) / 2).sqrt()
    apart = harmful.mean() - harmless.mean()
    return LayerChoice(
        layer=layer,
        auroc=auroc(harmful.tolist(), harmless.tolist()),
        separation=float(torch.where(spread > 0, apart / spread, 0.0)),
        penalty=penalty,
    )


def rank(choice: LayerChoice) -> tuple[float, float]:
    """Higher is better."""
    return choice.auroc, choice.separation
