"""Preference optimisation of an organism: which of two answers to one instruction is better.

For a harmful request the refusal is preferred to the answer, for a harmless one the answer to the
refusal. What optimises is in `dpo`, which needs the `train` extra.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from refusalscope.errors import MissingExtraError
from refusalscope.organisms.exchanges import ExchangeTokenizer
from refusalscope.organisms.language import Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Settings of the preference stage."""

    steps: int
    learning_rate: float
    batch_size: int = 16
    beta: float = 0.1
    """How strongly the model is held to the one it starts from."""
    noise_share: float = 0.3
    """Share of instructions that end in random tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two answers to one instruction, the first preferred."""

    chosen: Exchange
    rejected: Exchange


def prefer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    draw: Callable[[random.Random], PreferencePair],
    tokenize: ExchangeTokenizer,
    stage: Preference,
    *,
    seed: str,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Train in place; the reference is the model as it comes.

    Raises:
        MissingExtraError: TRL is not installed.
    """
    try:
        dpo = import_module("refusalscope.organisms.dpo")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "preference optimisation", package=str(error.name).partition(".")[0], extra="train"
        ) from error
    dpo.optimize_preference(model, tokenizer, draw, tokenize, stage, seed=seed, progress=progress)
