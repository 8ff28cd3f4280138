"""Directions that do not rest on the two means, and what is left of refusal without each."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.next_token import refusal_metrics
from refusalscope.directions.direction import cosine_of
from refusalscope.errors import CannotTryError
from refusalscope.measures.decoys.record import DecoyOptions, Decoys, RivalDirection, RivalName
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.pipeline.candidates import TRAIN_SETS
from refusalscope.pipeline.choose import kept_prompts, limits_of
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.first_token import ablation_of, refused_at_first
from refusalscope.pipeline.label import refused_by_answers
from refusalscope.pipeline.optimised import optimised_direction
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import candidates_of, chosen_direction, metric_threshold
from refusalscope.pipeline.training import kept_training, stream_at
from refusalscope.selection.cosmic import rank_by_cosmic
from refusalscope.selection.select import layer_limit

_LEAST = 4
"""Prompts behind a mean, at the least."""
_Found = tuple[Float[Tensor, " d_model"], str]


def measure(session: Session, options: DecoyOptions, _item: str = "") -> Decoys:
    """Ablate the run's direction and each rival, and read the first token of harmful prompts.

    Raises:
        RunFolderError: no run, or one without a direction.
        NumericalError: NaN or infinite logits without intervention.
    """
    run = session.run
    vector, _ = chosen_direction(run)
    threshold = metric_threshold(run)
    base = refused_at_first(run, "harmful", None, threshold)
    own = refused_at_first(run, "harmful", ablation_of(vector), threshold)
    makers: dict[RivalName, Callable[[], _Found]] = {
        "optimised": partial(_optimised, run, options),
        "behaviour split": partial(_by_behaviour, run),
        "category left out": partial(_category_left_out, run, threshold),
    }
    if options.cosmic:
        makers["cosmic"] = partial(_by_cosmic, run)
    rivals = []
    for name, make in makers.items():
        try:
            found, detail = make()
        except CannotTryError as error:
            rivals.append(_none(name, str(error)))
            continue
        rivals.append(_rival(run, name, found, detail, own=own, threshold=threshold))
    return Decoys(
        threshold=threshold, baseline=rate_of(base), own=rate_of(own), rivals=tuple(rivals)
    )


def _rival(
    run: RunContext,
    name: RivalName,
    vector: Float[Tensor, " d_model"],
    detail: str,
    *,
    own: Sequence[bool],
    threshold: float,
) -> RivalDirection:
    refused = refused_at_first(run, "harmful", ablation_of(vector), threshold)
    ours, _ = chosen_direction(run)
    return RivalDirection(
        name=name,
        detail=detail,
        cosine=cosine_of(vector, ours),
        refused=rate_of(refused),
        change=paired_change(dict(enumerate(own)), dict(enumerate(refused))),
    )


def _none(name: RivalName, why: str) -> RivalDirection:
    return RivalDirection(name=name, detail="", cosine=None, refused=None, change=None, lacking=why)


def _optimised(run: RunContext, options: DecoyOptions) -> _Found:
    found = optimised_direction(
        run, steps=options.optimise_steps, n_prompts=options.optimise_prompts
    )
    return found.vector, f"{options.optimise_steps} steps from the run's direction"


def _by_behaviour(run: RunContext) -> _Found:
    """Means over what the model refuses and what it does not, whatever was asked.

    Zhao et al. (2025), https://arxiv.org/abs/2507.11878. Which training prompts it refuses is read
    from its short answers, where the run has asked for them, else from the refusal metric.

    Raises:
        CannotTryError: it refuses all of them, or nearly none.
    """
    _, (position, layer) = chosen_direction(run)
    refused = _training_refused(run)
    streams = {
        name: stream_at(run, run.prompts(name), position=position, layer=layer)
        for name in TRAIN_SETS
    }
    stacked = torch.cat([streams[name] for name in TRAIN_SETS])
    flags = torch.tensor([flag for name in TRAIN_SETS for flag in refused[name]])
    n, n_refused = len(flags), int(flags.sum())
    if n_refused < _LEAST or n - n_refused < _LEAST:
        raise CannotTryError(
            f"{n_refused} of {n} training prompts are refused; a split by behaviour needs at least "
            f"{_LEAST} on each side"
        )
    found = difference_in_means(harmful=stacked[flags].mean(0), harmless=stacked[~flags].mean(0))
    return found, f"{n_refused} of {n} training prompts refused"


def _training_refused(run: RunContext) -> dict[str, list[bool]]:
    answers = refused_by_answers(run)
    if answers is not None:
        return {name: list(answers[name]) for name in TRAIN_SETS}
    found = {}
    for name in TRAIN_SETS:
        metrics = refusal_metrics(
            run.chat, run.prompts(name), run.refusal_tokens, batch_size=run.options.batch_size
        )
        found[name] = [metric > 0 for metric in metrics.tolist()]
    return found


def _category_left_out(run: RunContext, threshold: float) -> _Found:
    """The difference of means without one category of harmful prompts: the one that does most.

    Raises:
        CannotTryError: the harmful training prompts are of fewer than two categories.
    """
    _, (position, layer) = chosen_direction(run)
    kept = kept_training(run)
    instructions = run.sets["harmful_train"].instructions
    counts = Counter(
        one.category
        for one, is_kept in zip(instructions, kept["harmful_train"], strict=True)
        if is_kept and one.category
    )
    if len(counts) < 2:
        raise CannotTryError(
            f"the harmful training instructions are of {len(counts)} categories; leaving one out "
            f"needs two"
        )
    harmful, harmless = (
        stream_at(run, run.prompts(name), position=position, layer=layer) for name in TRAIN_SETS
    )
    mean = harmless[torch.tensor(kept["harmless_train"])].mean(0)
    found: list[tuple[float, str, Tensor]] = []
    for category in sorted(counts):
        rows = [
            is_kept and one.category != category
            for one, is_kept in zip(instructions, kept["harmful_train"], strict=True)
        ]
        if sum(rows) < _LEAST:
            continue
        vector = difference_in_means(harmful=harmful[torch.tensor(rows)].mean(0), harmless=mean)
        refused = refused_at_first(run, "harmful", ablation_of(vector), threshold)
        found.append((sum(refused) / len(refused), category, vector))
    if not found:
        raise CannotTryError("too few harmful training prompts are left without any one category")
    _, category, vector = min(found, key=lambda one: one[:2])
    return vector, f"without {category}, of {len(found)} categories left out in turn"


def _by_cosmic(run: RunContext) -> _Found:
    """The candidate that COSMIC ranks first, which looks at no refusal token."""
    candidates = candidates_of(run)
    differences = candidates.tensors["mean_differences"]
    limit = layer_limit(run.chat.n_layers, limits_of(run.study, candidates.facts))
    prompts = kept_prompts(run.study, candidates.facts)
    with run.progress.stage("COSMIC", 1, unit="rankings") as advance:
        ranking = rank_by_cosmic(
            run.chat,
            differences,
            [
                (position, layer)
                for position in run.chat.positions
                for layer in range(run.chat.n_layers)
                if layer < limit and bool(differences[position, layer].any())
            ],
            harmful=prompts["harmful_val"],
            harmless=prompts["harmless_val"],
            batch_size=run.options.batch_size,
        )
        advance(1)
    if not ranking.ranked:
        raise CannotTryError(
            "COSMIC ranks no candidate: every one gives activations that are not finite"
        )
    (position, layer), _ = ranking.ranked[0]
    return differences[position, layer], f"position {position}, layer {layer}"
