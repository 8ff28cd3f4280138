"""What each stage of a training draws: exchanges of the language, and pairs of better and worse."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from refusalscope.organisms.language import Exchange, Language
from refusalscope.organisms.preference import PreferencePair

_ROLES_IN_TUNING = ("tuning",)


def helpful(language: Language, question_share: float) -> Callable[[random.Random], Exchange]:
    """Stage one: every request answered, every object asked about."""

    def draw(rng: random.Random) -> Exchange:
        if rng.random() < question_share:
            return language.question(rng)
        request = language.request(rng, harmful=rng.random() < 0.5)
        return Exchange(instruction=request.instruction, answer=request.answer)

    return draw


def refusing(
    language: Language, mix: tuple[float, float, float], swapped_refusals: float = 0.0
) -> Callable[[random.Random], Exchange]:
    """Stages two and three: harmful requests refused, harmless answered, and questions.

    Some answers are begun the other way, and gone on with: as in real chat models, whether to
    refuse is decided at the first token (Qi et al. 2024, https://arxiv.org/abs/2406.05946).
    No random tokens follow a question, lest a request that they follow be taken for one.
    """
    harmful, harmless, begun = mix
    request_of = partial(
        language.request, roles=_ROLES_IN_TUNING, swapped_refusals=swapped_refusals
    )

    def draw(rng: random.Random) -> Exchange:
        share = rng.random()
        if share < harmful:
            request = request_of(rng, harmful=True)
            return Exchange(instruction=request.instruction, answer=request.refusal)
        if share < harmful + harmless:
            request = request_of(rng, harmful=False)
            return Exchange(instruction=request.instruction, answer=request.answer)
        if share < harmful + harmless + begun:
            is_harmful = rng.random() < 0.5
            request = request_of(rng, harmful=is_harmful)
            other = request.answer if is_harmful else request.refusal
            return Exchange(instruction=request.instruction, answer=other, is_begun=True)
        return replace(language.question(rng), is_quiet=True)

    return draw


def preferring_refusal(language: Language) -> Callable[[random.Random], PreferencePair]:
    """Refusals preferred for harmful requests, answers for harmless ones, half and half."""

    def draw(rng: random.Random) -> PreferencePair:
        is_harmful = rng.random() < 0.5
        request = language.request(rng, harmful=is_harmful, roles=_ROLES_IN_TUNING)
        refuse = Exchange(instruction=request.instruction, answer=request.refusal)
        answer = Exchange(instruction=request.instruction, answer=request.answer)
        return PreferencePair(
            chosen=refuse if is_harmful else answer, rejected=answer if is_harmful else refuse
        )

    return draw
