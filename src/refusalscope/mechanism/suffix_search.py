"""Greedy coordinate search for a suffix that undoes refusal, for white-box study."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.errors import NoSearchError
from refusalscope.mechanism.suffix_objective import SuffixObjective
from refusalscope.results.mechanism_records import SearchStep

IsStable = Callable[[tuple[int, ...]], bool]
"""Whether a suffix, written as text, is read as the same tokens."""
_TRIES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How a suffix is sought."""

    n_tokens: int = 20
    steps: int = 60
    candidates: int = 64
    """Suffixes tried in a step, each with one token changed."""
    top_k: int = 32
    """Tokens considered at a place: those that the gradient says lower the loss most."""
    enough: float = 0.01
    """The search ends early at a loss of this, in nats."""
    seed: int = 0


def search_suffix(
    objective: SuffixObjective,
    *,
    vocabulary: Sequence[int],
    is_stable: IsStable,
    options: SearchOptions,
    done: Sequence[SearchStep] = (),
) -> Iterator[SearchStep]:
    """Yield the state after each step, the random start being step 0.

    Greedy coordinate gradient (Zou et al. 2023, https://arxiv.org/abs/2307.15043), with three
    departures: the loss is that of one token, the first of the answer that is wanted of each prompt
    (see `SuffixObjective`); a step that would raise it is not taken; and only suffixes are tried
    that come back as the same tokens when their text is tokenized after each instruction.

    Every step draws from a generator of its own, seeded with `options.seed` and its number, so a
    search that goes on from the steps `done` equals one that was never cut.

    Args:
        vocabulary: Tokens that a suffix may hold.

    Raises:
        NoSearchError: no random suffix of the wanted length comes back as the same tokens.
    """
    state = done[-1] if done else _start(objective, vocabulary, is_stable, options)
    if not done:
        yield state
    allowed = torch.tensor(sorted(vocabulary))
    while state.step < options.steps and state.loss > options.enough:
        rng = random.Random(f"{options.seed}/suffix search/{state.step + 1}")
        ids = torch.tensor(state.ids)
        gradient = objective.gradient(ids)[:, allowed]
        drawn = _single_changes(state.ids, gradient, allowed, options.top_k, rng)
        candidates = list(islice(filter(is_stable, drawn), options.candidates))
        best, loss = state.ids, state.loss
        if candidates:
            losses = objective.losses(torch.tensor(candidates))
            lowest = int(losses.argmin())
            if losses[lowest].item() < loss:
                best, loss = candidates[lowest], losses[lowest].item()
        state = SearchStep(step=state.step + 1, loss=loss, ids=best, n_tried=len(candidates))
        yield state


def random_suffix(
    vocabulary: Sequence[int], n_tokens: int, *, is_stable: IsStable, rng: random.Random
) -> tuple[int, ...]:
    """Random tokens whose text is read as the same tokens, drawn one after the other.

    Raises:
        NoSearchError: none was found.
    """
    suffix: tuple[int, ...] = ()
    for _ in range(_TRIES):
        if len(suffix) == n_tokens:
            return suffix
        longer = (*suffix, rng.choice(vocabulary))
        if is_stable(longer):
            suffix = longer
    raise NoSearchError(
        f"no random suffix of {n_tokens} tokens came back as the same tokens in {_TRIES} tries "
        f"({len(suffix)} tokens were found); ask for fewer tokens"
    )


def _start(
    objective: SuffixObjective,
    vocabulary: Sequence[int],
    is_stable: IsStable,
    options: SearchOptions,
) -> SearchStep:
    rng = random.Random(f"{options.seed}/suffix search/0")
    ids = random_suffix(vocabulary, options.n_tokens, is_stable=is_stable, rng=rng)
    loss = objective.losses(torch.tensor([ids])).item()
    return SearchStep(step=0, loss=loss, ids=ids, n_tried=1)


def _single_changes(
    suffix: tuple[int, ...],
    gradient: Float[Tensor, "suffix allowed"],
    allowed: Int[Tensor, " allowed"],
    top_k: int,
    rng: random.Random,
) -> Iterator[tuple[int, ...]]:
    """Suffixes with one token changed to one of the best `top_k` of its place, in random order."""
    best = allowed[(-gradient).topk(min(top_k, len(allowed)), dim=1).indices].tolist()
    changes = [(place, token) for place, row in enumerate(best) for token in row]
    rng.shuffle(changes)
    for place, token in changes:
        if token != suffix[place]:
            yield (*suffix[:place], token, *suffix[place + 1 :])
