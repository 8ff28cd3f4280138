"""How many rows each stage runs through the model, and what that costs."""

import math
from dataclasses import dataclass

from refusalscope.models.meta_model import Size
from refusalscope.pipeline.complete import CONDITIONS
from refusalscope.pipeline.label import LABEL_TOKENS
from refusalscope.pipeline.options import LimitOptions
from refusalscope.pipeline.plan.measured import Measured
from refusalscope.pipeline.plan.options import PlanOptions
from refusalscope.pipeline.project import MAX_INSTRUCTIONS
from refusalscope.pipeline.stages import LOSS_CONDITIONS
from refusalscope.results.plan_records import PlannedRange
from refusalscope.selection.control_spread import N_DRAWS
from refusalscope.selection.score import BACKWARD, LEAST_ESTIMATED, SHARE_ESTIMATED
from refusalscope.selection.select import layer_limit

TYPICAL_SHARE = 0.17
"""Of the full grid of scores, what the search runs: the bundled organism with 32 validation prompts
(30.3 of 180 sweeps); 0.21 with 8 of them (37.2 of 180)."""
N_SHUFFLED = 32
Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a stage runs through the model.

    Attributes:
        written: Tokens that are written one at a time; they are among `tokens`.
    """

    passes: PlannedRange
    tokens: PlannedRange
    flops: PlannedRange | None
    written: PlannedRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Floating-point operations of rows.

    Two for each parameter at work and token, or what the code is seen to run where that is more,
    and attention's.
    """

    size: Size
    flops: float

    @property
    def _of_layers(self) -> float | None:
        """Of a token, without attention's."""
        if self.size.n_active is None or self.size.heads is None:
            return None
        return max(self.flops, 2.0 * (self.size.n_active - self.size.n_unembedding))

    def read(self, rows: Number, width: Number, *, n_scored: Number = 1) -> Number | None:
        """Rows that are read at once, whose logits are needed at some tokens."""
        size = self.size
        if self._of_layers is None or size.heads is None:
            return None
        layers = self._of_layers * width
        attention = 4 * size.heads * width * width
        return rows * (layers + attention + 2 * size.n_unembedding * n_scored)

    def written(self, rows: Number, width: Number, n_new: Number) -> Number | None:
        """Rows that are read and then answered, a token at a time."""
        size = self.size
        begun = self.read(rows, width)
        if begun is None or self._of_layers is None or size.heads is None:
            return None
        attention = 4 * size.heads * (width + n_new / 2)
        return begun + rows * max(0.0, n_new - 1) * (
            self._of_layers + 2 * size.n_unembedding + attention
        )


def n_candidates(options: PlanOptions, size: Size) -> int:
    """Candidate directions that are not cut before the first pass."""
    limits = LimitOptions(max_layer_fraction=options.max_layer_fraction).resolved(True, None)
    return options.positions * min(size.n_layers, math.ceil(layer_limit(size.n_layers, limits)))


def n_conditions(n_suffix: int) -> int:
    """Completions of each test instruction."""
    return max(len(own) for own in CONDITIONS.values()) + (1 if n_suffix else 0)


def work_of_stages(
    options: PlanOptions, measured: Measured, *, max_new_tokens: int, n_suffix: int
) -> dict[str, Work]:
    """Rows, tokens and operations of each stage; ranges where they depend on the model."""
    size, width = measured.size, options.prompt_tokens
    cost = Costs(size=size, flops=measured.flops)
    whole = width + max_new_tokens
    n_test = 2 * options.n_test
    n_completions = n_test * n_conditions(n_suffix)
    n_asked = 2 * (options.n_train + options.n_val)
    n_loss = options.n_test * len(LOSS_CONDITIONS)
    n_controls = n_test * (2 + N_DRAWS)
    n_projected = 2 * min(MAX_INSTRUCTIONS, options.n_test) * n_conditions(n_suffix)
    full = 3 * n_candidates(options, size) * options.n_val
    base = 2 * options.n_val * (1 + BACKWARD * _share_estimated(options.n_val))
    typical = base + full * (1.0 if options.all_scores else TYPICAL_SHARE)

    def reads(rows: Number, w: Number, *, n_scored: Number = 1, typical: Number | None) -> Work:
        return Work(
            passes=_range(rows, typical),
            tokens=_range(rows * w, _times(typical, w)),
            flops=_flops(
                cost.read(rows, w, n_scored=n_scored),
                None if typical is None else cost.read(typical, w, n_scored=n_scored),
            ),
            written=_range(0, 0),
        )

    def writes(rows: Number, n_new: int) -> Work:
        return Work(
            passes=_range(rows, rows),
            tokens=_range(rows * (width + n_new), None),
            flops=_flops(cost.written(rows, width, n_new), None),
            written=_range(rows * n_new, None),
        )

    return {
        "label": writes(n_asked, LABEL_TOKENS),
        "extract": reads(n_asked, width, typical=n_asked),
        "select": reads(base + full, width, typical=typical),
        "complete": writes(n_completions, max_new_tokens),
        "outcomes": reads(n_completions + N_SHUFFLED, whole, n_scored=max_new_tokens, typical=None),
        "loss": reads(n_loss, whole, n_scored=max_new_tokens, typical=None),
        "controls": reads(n_controls, width, typical=n_controls),
        "project": reads(n_projected, whole, typical=None),
    }


def _share_estimated(n_prompts: int) -> float:
    """Of a set's prompts, those that are differentiated."""
    return 1 / max(1, min(SHARE_ESTIMATED, n_prompts // LEAST_ESTIMATED))


def _range(at_most: Number, typical: Number | None) -> PlannedRange:
    return PlannedRange(at_most=at_most, typical=typical)


def _times(value: Number | None, factor: Number) -> Number | None:
    return None if value is None else value * factor


def _flops(at_most: Number | None, typical: Number | None) -> PlannedRange | None:
    return None if at_most is None else _range(at_most, typical)
