"""Every harmless instruction that a run could have been trained on: its own, and where from."""

from pathlib import Path

from refusalscope.data.read import read_instructions
from refusalscope.errors import InputError
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.instructions import read_given

_FROM_LANGUAGE = 1000
"""Requests that are drawn of an organism's language."""


def harmless_pool(run: RunContext) -> list[str]:
    """All harmless instructions of the run's source but those of validation and test.

    Where the source is a file or the paper's split, more than the run has drawn to train on.
    """
    options, sets = run.options, run.sets
    held_out = {
        one.text
        for name in ("harmless_val", "harmless", "harmful_val", "harmful", "harmful_train")
        for one in sets[name].instructions
    }
    own = [one.text for one in sets["harmless_train"].instructions]
    if options.splits is not None:
        source = read_instructions(Path(options.splits) / "harmless_train.json")
    elif options.harmless is not None:
        source = read_given(options.harmless, options, columns=options.columns).instructions
    else:
        return [text for text in dict.fromkeys([*own, *_of_language(run)]) if text not in held_out]
    texts = dict.fromkeys([*own, *(one.text for one in source)])
    return [text for text in texts if text not in held_out]


def _of_language(run: RunContext) -> list[str]:
    """Requests of an organism's language; nothing where it has not so many."""
    if run.language is None:
        return []
    try:
        drawn = run.language.instructions(
            "train", harmful=False, n=_FROM_LANGUAGE, seed=run.options.seed
        )
    except InputError:
        return []
    return [one.instruction for one in drawn]
