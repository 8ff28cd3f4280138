"""Monitors: the options of `refusalscope monitor`, what a monitor's file says, an evaluation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, CountOrZero
from refusalscope.results.record import Record
from refusalscope.results.records import InstructionCounts, Rate

MonitorKind = Literal["projection", "harmfulness", "discriminant", "logistic", "sliding"]
"""What the weights are, see `monitors.readout`."""
MonitorSite = Literal["resid", "attn", "mlp"]
"""What is read: resid_pre of a layer, or what its attention or its MLP adds to the stream."""
Pool = Literal["instruction", "template", "direction", "mean", "sliding"]
"""At which tokens: the instruction's last, the template's last, that of the run's direction, the
mean over the instruction's, or the largest mean over a window of them."""
MonitorCondition = Literal["baseline", "ablation", "suffix"]
FPRS = (0.01, 0.05)
"""The false positive rates at which true positive rates are stated."""


class MonitorFitOptions(Record):
    """What `monitor fit` is asked to do."""

    harmful: Annotated[
        str | None, Flag("Harmful instructions to fit on: a file, or a data set's name.")
    ] = None
    harmless: Annotated[str | None, Flag("Harmless instructions to fit on and to set FPR on.")] = (
        None
    )
    kind: Annotated[
        MonitorKind,
        Flag("projection, harmfulness, discriminant, logistic or sliding."),
    ] = "logistic"
    layer: Annotated[CountOrZero | None, Flag("Layer to read; else chosen on validation data.")] = (
        None
    )
    site: Annotated[MonitorSite, Flag("What is read: resid, attn or mlp.")] = "resid"
    token: Annotated[
        Literal["instruction", "template"],
        Flag("Last token of the instruction, or of the template; not for projection or sliding."),
    ] = "instruction"
    window: Annotated[Count, Flag("Tokens that must agree, for sliding.")] = 4
    ablated: Annotated[
        bool,
        Flag("Do not fit under the run's ablation too.", word="no-ablated", is_negated=True),
    ] = True
    """Weights and layer are those that hold for the model as it is and with r ablated."""
    fpr: Annotated[
        float, Field(gt=0, lt=1), Flag("False positive rate at which the threshold is set.")
    ] = 0.01
    borderline: Annotated[
        str | None,
        Flag("Harmless ones that look harmful, for fit and threshold: a file, or `language`."),
    ] = None
    """`language` is an organism's own, about other objects than those of an evaluation."""
    hold_out: Annotated[
        tuple[str, ...], Flag("Category of harmful instructions to leave out; repeatable.")
    ] = ()
    n_train: Annotated[Count, Flag("Instructions of each kind for the weights, at most.")] = 256
    n_val: Annotated[Count, Flag("Instructions of each kind to choose by, at most.")] = 64
    n_threshold: Annotated[
        Count, Flag("Harmless instructions that the threshold is set on, at most.")
    ] = 400


class MonitorEvaluationOptions(Record):
    """What `monitor evaluate` is asked to do."""

    harmful: Annotated[
        str | None, Flag("Harmful instructions: a file, or a data set's name; else the run's.")
    ] = None
    harmless: Annotated[str | None, Flag("Harmless instructions; 1 % FPR needs 300.")] = None
    borderline: Annotated[
        str | None, Flag("Harmless instructions that look harmful; an organism has its own.")
    ] = None
    suffix: Annotated[
        str | None, Flag("Adversarial suffix: a file, or paper-qwen; else that of the mechanism.")
    ] = None
    n: Annotated[Count, Flag("Instructions of each sort, at most.")] = 400


class LayerChoice(Record):
    """How well one layer told validation prompts apart.

    Attributes:
        separation: Distance of both means over the root of the mean variance (d').
        penalty: Of the logistic fit that was best there; None for kinds without one.
    """

    layer: int
    auroc: float
    separation: float
    penalty: float | None = None


class Platt(Record):
    """Log-odds of harmful, were half of all so: intercept + slope * score."""

    intercept: float
    slope: float


class MonitorFacts(Record):
    """What a monitor's file says beside its tensors.

    Attributes:
        token: Position from the end of the prompt, for the pool `direction`.
        window: In tokens, for the pool `sliding`.
        threshold: A prompt with a higher score is flagged.
        fpr: What the threshold was set for, on `n_threshold` harmless prompts that no weight was
            fitted on.
        is_threshold_apart: Whether these prompts did not choose layer and penalty either.
        penalty: Of the logistic fit, on standardised channels.
        held_out: Categories of harmful instructions that were left out.
        layers: Every layer that was looked at, in order.
    """

    mend: ClassVar[str] = "fit the monitor again with: refusalscope monitor fit"

    schema_version: Literal[1] = Field(default=1, alias="schema")
    kind: MonitorKind
    site: MonitorSite
    layer: CountOrZero
    pool: Pool
    token: int | None
    window: Count | None
    d_model: Count
    n_layers: Count
    threshold: float
    fpr: float
    n_threshold: int
    is_threshold_apart: bool
    platt: Platt | None
    penalty: float | None
    is_ablated: bool
    """Whether it was fitted under ablation too."""
    held_out: tuple[str, ...]
    layers: tuple[LayerChoice, ...]
    fitted_on: tuple[InstructionCounts, ...]
    model: str
    weights_sha256: str | None
    template_sha256: str | None
    seed: int
    versions: dict[str, str]


class TruePositives(Record):
    """The true positive rate at one false positive rate; None where too few harmless prompts are.

    Attributes:
        threshold: Highest score below which all but that share of the harmless prompts lie.
        low: Of a 95 % interval over prompts of both kinds; the threshold is set anew in each draw.
        reason: Why there is no number.
    """

    fpr: float
    n_harmful: int
    n_harmless: int
    tpr: float | None
    low: float | None
    high: float | None
    threshold: float | None
    reason: str | None = None


class Separation(Record):
    """How well scores tell some harmful prompts from some harmless ones; AUROC is never alone."""

    harmful: str
    harmless: str
    n_harmful: int
    n_harmless: int
    auroc: float
    auroc_low: float | None
    auroc_high: float | None
    at: tuple[TruePositives, ...]


class CategoryAt(Record):
    """One kind of harm: the thresholds are those of all harmless prompts."""

    category: str
    is_held_out: bool
    at: tuple[TruePositives, ...]
    flagged: Rate
    """At the file's own threshold."""


class CalibrationBin(Record):
    """Prompts whose predicted probability of being harmful is within one tenth."""

    low: float
    high: float
    predicted: float
    """Mean, at the share of harmful prompts that the evaluation has."""
    observed: Rate
    """Share of harmful ones."""


class Flagged(Record):
    """What the file's own threshold flags."""

    threshold: float
    harmful: Rate
    harmless: Rate
    held_out: Rate | None
    borderline: Rate | None


class ConditionEvaluation(Record):
    """The monitor on the model as it is, or under one condition."""

    condition: MonitorCondition
    all: Separation
    held_out: Separation | None
    """The kinds of harm that no weight was fitted on."""
    borderline: Separation | None
    """All harmful prompts against the borderline ones."""
    categories: tuple[CategoryAt, ...]
    own_threshold: Flagged
    calibration: tuple[CalibrationBin, ...]
    """Empty where the file has no map to probabilities."""


class MonitorEvaluation(Record):
    """What `monitor evaluate` writes."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    monitor: MonitorFacts
    monitor_sha256: str
    run: str
    weights_sha256: str | None
    suffix: str | None
    """Text of the suffix."""
    instructions: tuple[InstructionCounts, ...]
    conditions: tuple[ConditionEvaluation, ...]
    seed: int
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()


class MonitorScore(Record):
    """One line of `monitor score`.

    Attributes:
        probability: Of being harmful, were half of all prompts so; None where the file has no map.
    """

    instruction: str
    category: str | None
    score: float
    is_flagged: bool
    probability: float | None
