"""Rungs that change the weights: the edit written into them, and tuning on a few pairs."""

from functools import partial
from pathlib import Path

from refusalscope.data.answer_pairs import read_pairs
from refusalscope.data.instruction import Instruction
from refusalscope.data.overlap import require_disjoint
from refusalscope.errors import CannotTryError
from refusalscope.measures.ladder.made import Made, direction_cost
from refusalscope.measures.ladder.record import LadderOptions
from refusalscope.pipeline.adapters import (
    LANGUAGE,
    TuningSettings,
    adapted,
    language_pairs,
    trained_adapter,
)
from refusalscope.pipeline.complete_aside import DATASET
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.stages import chosen_direction
from refusalscope.results.attack_records import Cost
from refusalscope.weights.edited_copy import edited_copy
from refusalscope.weights.leftover import largest

_LEAST_STEPS = 12
"""An adapter that is tuned on few pairs sees each of them more often."""


def with_edited_weights(run: RunContext, _options: LadderOptions, _own: Path) -> Made:
    """With the run's direction taken out of a copy of the weights, in memory."""
    vector, place = chosen_direction(run)
    edited = edited_copy(run.chat, [vector])
    left = largest(edited.leftovers)
    return Made(
        chat=edited.chat,
        cost=direction_cost(run),
        detail=f"the run's direction taken out of {edited.n_edited} tensors; largest leftover "
        f"{'not known' if left is None else format(left, '.1e')}",
        key=vector.tolist(),
        places=(place,),
    )


def tuned_on_pairs(run: RunContext, options: LadderOptions, n: int, own: Path) -> Made:
    """With a LoRA adapter that was tuned on `n` harmful instructions and answers to them.

    The pairs are the user's, or an organism's own language.

    Raises:
        MissingExtraError: PEFT is not installed.
        CannotTryError: there are no pairs, or fewer.
        InstructionsError: one of them is a test instruction.
    """
    if options.pairs is None:
        if run.language is None:
            raise CannotTryError(
                "no pairs to tune on were given (--pairs FILE); only organisms bring their own"
            )
        pairs, source = language_pairs(run, n), LANGUAGE
    else:
        pairs, source = read_pairs(Path(options.pairs))[:n], options.pairs
    if len(pairs) < n:
        raise CannotTryError(f"{source} has {len(pairs)} pairs, {n} were asked for")
    asked = [Instruction(pair.instruction, None) for pair in pairs]
    require_disjoint({"pairs": asked, DATASET: run.sets[DATASET].instructions})
    settings = TuningSettings()
    epochs = max(settings.epochs, -(-_LEAST_STEPS * settings.batch_size // n))
    settings = settings.model_copy(update={"epochs": epochs})
    training = trained_adapter(run, pairs, own / "adapter", settings, source=source)
    return Made(
        chat=run.chat,
        cost=Cost(prompts=n, forward=epochs * n, backward=epochs * n),
        detail=f"LoRA of rank {training.rank} on {n} pairs, {epochs} times each; loss "
        f"{training.epoch_losses[0]:.2f} to {training.epoch_losses[-1]:.2f} nats",
        around=partial(adapted, run.chat, own / "adapter"),
        key=[training.sha256, epochs],
    )
