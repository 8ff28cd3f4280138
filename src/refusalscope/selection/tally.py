"""What is known of a candidate whose scores come in parts, and what they can still become."""

import math

from refusalscope.results.records import CandidateScores
from refusalscope.selection.scorer import Candidate, Expected, Part, ScoreName, Scorer

_GUESS = 2
"""A guess is worth one prompt in so many."""


class Mean:
    """One score of one candidate, of which the first prompts are known."""

    def __init__(self, n_prompts: int, *, expected: float, weight: float = 0.0) -> None:
        """Begin with no prompt known.

        Args:
            expected: What the mean will probably be.
            weight: How many prompts that guess is worth, beside those that are scored.
        """
        self._n = n_prompts
        self._expected = expected
        self._weight = weight
        self._total = 0.0
        self.n_done = 0

    def add(self, part: Part, total: float) -> None:
        """Take in the sum over a part."""
        self._total += total
        self.n_done = part.stop

    @property
    def is_complete(self) -> bool:
        """Whether every prompt has been scored."""
        return self.n_done == self._n

    @property
    def is_known(self) -> bool:
        """Whether its estimate rests on this candidate: on a guess or on prompts."""
        return bool(self.n_done or self._weight)

    @property
    def estimate(self) -> float:
        """The mean so far and what is expected, by their weights."""
        weight = 0.0 if self.is_complete else self._weight
        if not self.n_done + weight:
            return self._expected
        return (self._total + weight * self._expected) / (self.n_done + weight)

    @property
    def value(self) -> float | None:
        """The mean over all prompts; None before it is known, or where it is not finite."""
        return _finite(self.if_rest_is(0.0)) if self.is_complete else None

    def if_rest_is(self, bound: float) -> float:
        """The mean if every prompt not yet scored had the score `bound`."""
        return (self._total + bound * (self._n - self.n_done)) / self._n

    def n_to_reach(self, limit: float, *, bound: float) -> float:
        """How many more prompts will take `if_rest_is(bound)` to `limit`, all scored as estimated.

        Infinite where it will not get there before the last.
        """
        gap, step = limit - self.if_rest_is(bound), self.estimate - bound
        n = gap / step * self._n if step else math.inf
        return n if 0 <= n < self._n - self.n_done else math.inf

    def stop_after(self, n: float) -> int:
        """Where to stop so that `n` more prompts are scored; one in 64 more, in case."""
        return min(self._n, self.n_done + math.ceil(n + self._n / 64))

    def first(self, share: int) -> int:
        """One prompt in `share`, the first ones."""
        return -(-self._n // share)

    @property
    def end(self) -> int:
        """Where the last prompt ends."""
        return self._n


class Tally:
    """What is known of one candidate so far."""

    def __init__(
        self, candidate: Candidate, scorer: Scorer, expected: Expected | None = None
    ) -> None:
        """Begin with what is expected; as without intervention where nothing is told."""
        self.candidate = candidate
        told = expected or {}

        def mean(name: ScoreName, n_prompts: int, baseline: float) -> Mean:
            guess = told.get((name, candidate))
            if guess is None:
                return Mean(n_prompts, expected=baseline)
            return Mean(n_prompts, expected=guess, weight=n_prompts / _GUESS)

        self.bypass = mean("bypass", scorer.n_harmful, scorer.baseline_harmful)
        self.induce = mean("induce", scorer.n_harmless, scorer.baseline_harmless)
        self.kl = Mean(scorer.n_harmless, expected=0.0)
        self.rejected: str | None = None

    def mean(self, name: ScoreName) -> Mean:
        """One score by its name."""
        return {"bypass": self.bypass, "induce": self.induce, "kl": self.kl}[name]

    @property
    def is_complete(self) -> bool:
        """Whether all three scores are."""
        return self.bypass.is_complete and self.induce.is_complete and self.kl.is_complete

    def part(self, name: ScoreName, *, stop: int) -> Part:
        """The next prompts of a score."""
        start = self.mean(name).n_done
        return Part(candidate=self.candidate, score=name, start=start, stop=stop)

    def scores(self) -> CandidateScores:
        """Its row of the scores file."""
        position, layer = self.candidate
        return CandidateScores(
            position=position,
            layer=layer,
            bypass=self.bypass.value,
            induce=self.induce.value,
            kl=self.kl.value,
            rejected=self.rejected,
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
