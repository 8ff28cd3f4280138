"""What is asked of whoever scores candidates: parts of their three scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

Candidate = tuple[int, int]
"""Position and layer."""

ScoreName = Literal["bypass", "induce", "kl"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)


def set_size(name: ScoreName, scorer: "Scorer") -> int:
    """Prompts that one score is a mean over."""
    return scorer.n_harmful if name == "bypass" else scorer.n_harmless


def whole(name: ScoreName, candidate: Candidate, scorer: "Scorer") -> "Part":
    """One score of a candidate on all of its prompts."""
    return Part(candidate=candidate, score=name, start=0, stop=set_size(name, scorer))


Expected = Mapping[tuple[ScoreName, Candidate], float]
"""What a score will probably be: a guess, which decides nothing but what is computed next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One score of a candidate on some of its validation prompts: `start` to `stop` - 1."""

    candidate: Candidate
    score: ScoreName
    start: int
    stop: int


@runtime_checkable
class Scorer(Protocol):
    """Whoever can score candidates: a model, or recorded scores.

    Bypass is scored on harmful prompts under ablation, induce on harmless ones under addition, KL
    on harmless ones under ablation. The baselines are the mean refusal metric without intervention.
    """

    n_harmful: int
    n_harmless: int
    baseline_harmful: float
    baseline_harmless: float

    def score(self, parts: Sequence[Part]) -> Sequence[float]:
        """The score of each part, summed over its prompts."""
        ...

    def expected(self) -> Expected:
        """What bypass and induce of candidates will probably be; nothing where none can be told."""
        ...

    def put_hardest_first(self, candidate: Candidate, *, start: int) -> None:
        """Change the order of harmful prompts from place `start` on, which few have scored yet."""
        ...


@runtime_checkable
class PromptScorer(Scorer, Protocol):
    """A scorer that can tell each prompt's own score."""

    def by_prompt(self, name: ScoreName, candidate: Candidate) -> Sequence[float]:
        """What was scored so far, prompt by prompt, in one order for all candidates."""
        ...
