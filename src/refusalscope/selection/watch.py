"""What a search says on its way: who leads after a first look, and about how much is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from refusalscope.selection.scorer import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """A candidate that leads, with its scores as far as they are known or estimated, in nats.

    Attributes:
        bypass: None where it was not looked at, because induce is probably too low.
    """

    candidate: Candidate
    bypass: float | None
    induce: float


@runtime_checkable
class Watch(Protocol):
    """Whoever looks on."""

    def expect(self, sweeps: float) -> None:
        """Take in about how many sweeps are left, in the unit of `ModelScorer.sweeps`."""
        ...

    def leads(self, leads: Sequence[Lead], *, are_estimates: bool) -> None:
        """Take in who leads before anybody is dropped, the best first.

        Args:
            are_estimates: By first-order estimates over the prompts, or by scores of a few.
        """
        ...


class Nobody:
    """Looks away."""

    def expect(self, sweeps: float) -> None:
        """Ignore it."""

    def leads(self, leads: Sequence[Lead], *, are_estimates: bool) -> None:
        """Ignore it."""
