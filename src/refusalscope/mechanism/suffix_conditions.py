"""Harmful prompts plain, with random suffixes and with a searched one, beside harmless ones."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from jaxtyping import Float
from torch import Tensor

from refusalscope.generate.answers import greedy_answers
from refusalscope.mechanism.attention_regions import SuffixedPrompt
from refusalscope.mechanism.cosines import cosines_by_layer, curve
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.refusal_phrases import is_refusal_in_answer
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.mechanism_records import SuffixCondition, SuffixConditionName
from refusalscope.results.records import Rate

CONDITION_NAMES: tuple[SuffixConditionName, ...] = get_args(SuffixConditionName)
ConditionPrompts = Mapping[SuffixConditionName, Sequence[SuffixedPrompt]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationLimits:
    """How the completions of a condition are written."""

    max_new_tokens: int
    stop_at_end_of_turn: bool


def condition_prompts(
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    suffix: tuple[int, ...],
    *,
    vocabulary: Sequence[int],
    seed: int,
) -> dict[SuffixConditionName, list[SuffixedPrompt]]:
    """The prompts of the four conditions of the paper's section 5.

    A suffix stands at the end of the instruction, before the post-instruction tokens. The random
    one is drawn afresh for each prompt, with as many tokens as the searched one.
    """
    rng = random.Random(f"{seed}/random suffixes")
    n = len(suffix)
    return {
        "harmful": [SuffixedPrompt(prompt=p) for p in harmful],
        "harmful_random_suffix": [
            SuffixedPrompt(prompt=p.with_suffix(tuple(rng.choices(vocabulary, k=n))), n_suffix=n)
            for p in harmful
        ],
        "harmful_adversarial_suffix": [
            SuffixedPrompt(prompt=p.with_suffix(suffix), n_suffix=n) for p in harmful
        ],
        "harmless": [SuffixedPrompt(prompt=p) for p in harmless],
    }


def suffix_condition(
    chat: ChatModel,
    prompts: Sequence[SuffixedPrompt],
    direction: Float[Tensor, " d_model"],
    *,
    kept: Sequence[int],
    limits: GenerationLimits,
    batch_size: int = 32,
    progress: Callable[[float], None] = lambda _: None,
) -> SuffixCondition:
    """One condition: refusal of all prompts, cosines of those that were `kept` (Figure 5)."""
    plain = [each.prompt for each in prompts]
    cosines = cosines_by_layer(chat, [plain[i] for i in kept], direction, batch_size=batch_size)
    found = curve(cosines)
    return SuffixCondition(
        refusal=refusal_rate(chat, plain, limits, batch_size=batch_size, progress=progress),
        cosine_mean=found.mean,
        cosine_sd=found.sd,
        n=len(kept),
    )


def refusal_rate(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    limits: GenerationLimits,
    *,
    batch_size: int = 32,
    progress: Callable[[float], None] = lambda _: None,
) -> Rate:
    """Share of greedy completions whose answer holds a refusal phrase."""
    flags: list[bool] = []
    for rows, answers in greedy_answers(
        chat,
        prompts,
        max_new_tokens=limits.max_new_tokens,
        stop_at_end_of_turn=limits.stop_at_end_of_turn,
        batch_size=batch_size,
    ):
        flags += [is_refusal_in_answer(answer.text) for answer in answers]
        progress(len(rows))
    return rate_of(flags)
