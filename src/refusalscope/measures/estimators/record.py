"""What each estimator of candidates would have chosen: measures/estimators.json."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.estimator_records import Estimator
from refusalscope.results.flags import Flag
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import CandidateScores, Rate

Rival = Estimator | Literal["cosmic"]
"""An estimator, chosen from by the run's rule; or difference in means, chosen from by COSMIC's."""


class EstimatorsOptions(Record):
    """What is compared."""

    cosmic: Annotated[
        bool, Flag("Leave COSMIC's rule away.", word="no-cosmic", is_negated=True)
    ] = True
    """Whether difference in means is also chosen from by COSMIC's rule."""
    proven: Annotated[
        bool, Flag("Prove each choice among all candidates, in place of the likeliest.")
    ] = False
    """False scores those alone that lead by first-order estimates, and the one at the run's own
    place: a fraction of the passes, and another candidate may be better."""


class Choice(Record):
    """What one estimator makes, and what is chosen of it.

    Attributes:
        same_as: The estimator before it that makes the same candidates, bit for bit: all numbers
            are then that one's.
        lacking: Why there is no choice; None where there is one.
        chosen: With the scores of the run's rule on its validation prompts.
        failed_limits: What the chosen one fails: nothing passes, and it comes nearest.
        cosine_plain: Of the chosen vector with difference in means at the same place.
        cosine_run: Of the chosen vector with the run's direction.
        harmful: Harmful test instructions that it makes the first token refuse when ablated.
        harmless: Harmless ones that it makes the first token refuse when added.
        harmful_change: From what difference in means does to the same instructions; None of that
            itself, and where it has no choice. `harmless_change` likewise.
        sweeps: What the choice takes by itself, in passes over one validation set; less was run
            where another estimator makes some of the same candidates. 0 where nothing was run.
    """

    name: Rival
    same_as: Rival | None = None
    lacking: str | None = None
    chosen: CandidateScores | None = None
    failed_limits: tuple[str, ...] = ()
    cosine_plain: float | None = None
    cosine_run: float | None = None
    harmful: Rate | None = None
    harmless: Rate | None = None
    harmful_change: RateChange | None = None
    harmless_change: RateChange | None = None
    sweeps: float = 0.0


class CosmicScores(Record):
    """How COSMIC's rule came to its choice.

    Attributes:
        layers: Where both means have the lowest cosine; activations are compared there.
        n_first: Prompts of each kind that all candidates were scored on.
        n_whole: Candidates that were scored on all prompts after that, the best so far.
    """

    layers: tuple[int, ...]
    n_first: int
    n_whole: int


class Estimators(Record):
    """measures/estimators.json.

    Attributes:
        threshold: Log-odds above which a first token refuses, in nats.
        baseline_harmful: Harmful test instructions whose first token refuses, untouched.
        baseline_harmless: As `baseline_harmful`, of harmless ones.
        run: The estimator of the run.
        n_leads: So many of the other estimators' candidates were scored, beside that at the run's
            own place; None where each choice is proven among all.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: Estimator
    position: int
    layer: int
    threshold: float
    baseline_harmful: Rate
    baseline_harmless: Rate
    choices: tuple[Choice, ...]
    cosmic: CosmicScores | None = None
    n_leads: int | None = None
