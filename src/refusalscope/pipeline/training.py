"""The training prompts of a finished run: which of them made its candidates, and their stream."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalscope.activations.moments import Moments, resid_pre_moments
from refusalscope.activations.streams import streams_at
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.candidates import TRAIN_SETS, prompt_metrics
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.label import refused_by_answers

Kept = dict[str, tuple[bool, ...]]
"""For each training set whether each of its prompts was kept."""


def kept_training(run: RunContext) -> Kept:
    """Which training prompts the run's filter kept: what its candidates were made of.

    Raises:
        RunFolderError: the run's answers to them are not there.
    """
    if not run.options.filter_instructions:
        return {name: (True,) * len(run.sets[name].instructions) for name in TRAIN_SETS}
    if run.options.label_of(run.study.is_papers) == "answers":
        answers = refused_by_answers(run)
        assert answers is not None, "a run that labels by answers asks for them"
        return {
            name: tuple(flag == name.startswith("harmful") for flag in answers[name])
            for name in TRAIN_SETS
        }
    return {
        name: tuple(
            metric > 0 if name.startswith("harmful") else metric < 0
            for metric in prompt_metrics(run.study, name, run.refusal_tokens)
        )
        for name in TRAIN_SETS
    }


def training_moments(run: RunContext, kept: Kept) -> dict[str, Moments]:
    """Means and variances of the run's training prompts, in the batches of its extraction."""
    return {name: _moments(run, name, own) for name, own in kept.items()}


def _moments(run: RunContext, name: str, kept: Sequence[bool]) -> Moments:
    def keep(_logits: Tensor, rows: Sequence[int]) -> Bool[Tensor, " row"]:
        return torch.tensor([kept[i] for i in rows])

    return resid_pre_moments(
        run.chat, run.prompts(name), keep=keep, batch_size=run.options.batch_size
    )


def stream_at(
    run: RunContext, prompts: Sequence[Prompt], *, position: int, layer: int
) -> Float[Tensor, "prompt d_model"]:
    """resid_pre of each prompt at one position and layer, on the CPU in float64."""
    found = torch.zeros(len(prompts), run.chat.d_model, dtype=torch.float64)
    for rows, streams in streams_at(
        run.chat, prompts, position=position, batch_size=run.options.batch_size
    ):
        found[rows] = streams[layer]
    return found
