"""How near the direction lies to directions of labelled concepts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.data.instruction import Instruction
from refusalscope.directions.direction import cosine_of
from refusalscope.measures.meaning.record import Concept, Concepts, MeaningOptions
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.instructions import read_given
from refusalscope.pipeline.training import stream_at
from refusalscope.results.records import ScoreInterval
from refusalscope.selection.scorer import Candidate

OWN = "kinds of harm among the harmful training instructions"
_LEAST = 4
"""Instructions of a category, and of all others, at the least."""


def concepts_of(
    run: RunContext,
    direction: Float[Tensor, " d_model"],
    place: Candidate,
    options: MeaningOptions,
) -> Concepts:
    """Each category's difference in means from all others, beside the direction.

    Raises:
        InstructionsError: the file of labelled instructions is not one.
    """
    source = OWN if options.concepts is None else options.concepts
    given = [one for one in _labelled(run, options) if one.category]
    counts = Counter(one.category for one in given)
    names = sorted(name for name, n in counts.items() if name and min(n, len(given) - n) >= _LEAST)
    if not names:
        return Concepts(
            source=source,
            rows=(),
            lacking=(
                f"{len(given)} instructions name {len(counts)} categories; a concept needs "
                f"{_LEAST} of its own and {_LEAST} others"
            ),
        )
    prompts = run.chat.encode([one.text for one in given])
    position, layer = place
    streams = stream_at(run, prompts, position=position, layer=layer)
    labels = np.array([one.category for one in given])
    rows = [
        _concept(
            name,
            torch.from_numpy(labels == name),
            streams,
            direction,
            n_pairs=options.n_pairs,
            seed=options.seed,
        )
        for name in names
    ]
    return Concepts(source=source, rows=tuple(sorted(rows, key=lambda row: -row.cosine)))


def _labelled(run: RunContext, options: MeaningOptions) -> Sequence[Instruction]:
    if options.concepts is None:
        return run.sets["harmful_train"].instructions
    return read_given(options.concepts, run.options).instructions


def _concept(
    name: str,
    is_own: Tensor,
    streams: Float[Tensor, "prompt d_model"],
    direction: Float[Tensor, " d_model"],
    *,
    n_pairs: int,
    seed: int,
) -> Concept:
    """One category, and random pairs of groups as large as it and as all others."""
    n, total = int(is_own.sum()), len(is_own)
    rng = np.random.default_rng(seed)
    low, high = np.quantile(
        [
            _cosine(torch.from_numpy(rng.permutation(total) < n), streams, direction)
            for _ in range(n_pairs)
        ],
        [0.025, 0.975],
    )
    return Concept(
        name=name,
        n=n,
        n_others=total - n,
        cosine=_cosine(is_own, streams, direction),
        chance=ScoreInterval(low=float(low), high=float(high)),
    )


def _cosine(is_own: Tensor, streams: Tensor, direction: Tensor) -> float:
    apart = streams[is_own].mean(0) - streams[~is_own].mean(0)
    return cosine_of(apart, direction)
