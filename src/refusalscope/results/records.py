"""The records that stages hand to each other and to the report.

The four conditions have the same words everywhere: baseline, ablation, addition (+r), subtraction
(-r). The controls are the same operators with a random direction of equal norm.
"""

import json
from datetime import date
from typing import ClassVar, Literal, get_args

from pydantic import Field

from refusalscope.errors import RunFolderError
from refusalscope.results.contrast_records import Contrast
from refusalscope.results.control_records import ControlRange
from refusalscope.results.estimator_records import PLAIN, ChannelCheck, Estimator
from refusalscope.results.numbers import Factor
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record

Condition = Literal[
    "baseline",
    "ablation",
    "addition",
    "subtraction",
    "random_ablation",
    "random_addition",
    "random_suffix",
]
MODEL_CONDITIONS: tuple[Condition, ...] = tuple(
    name for name in get_args(Condition) if name != "random_suffix"
)
"""Those that leave the prompt alone."""


class Rate(Record):
    """A share with its count and 95 % Wilson interval."""

    rate: float
    n: int
    low: float
    high: float


class CandidateScores(Record):
    """Scores of one candidate direction; None where the winner did not depend on it.

    Attributes:
        position: Token position counted from the end of the prompt, -1 is the last.
        layer: 0-based; the direction is that of resid_pre of this block.
        bypass: Mean refusal metric (log-odds, nats) on harmful validation under ablation.
        induce: Mean refusal metric on harmless validation under addition at `layer`.
        kl: Mean KL(baseline || ablation) in nats of the next token on harmless validation.
        rejected: Why the candidate cannot be chosen; None for those that can.
    """

    position: int
    layer: int
    bypass: float | None
    induce: float | None
    kl: float | None
    rejected: str | None


Rule = Literal["published", "code", "calibrated"]


class SelectionLimits(Record):
    """The rule that a candidate must pass (paper section 2.3).

    Attributes:
        min_induce: In nats. 0 in the paper; under the calibrated rule the log-odds at which this
            model's refusals and answers are best told apart.
        rule: As published, as in the paper's code, or as published with a calibrated `min_induce`.
    """

    max_kl: Factor = 0.1
    min_induce: Factor = 0.0
    max_layer_fraction: Factor = 0.8
    rule: Rule = "published"


class ScoreInterval(Record):
    """A 95 % interval of a mean score over prompts."""

    low: float
    high: float


class Winner(Record):
    """A candidate, and the share of resamples in which it would have been chosen."""

    position: int
    layer: int
    share: float


class Stability(Record):
    """The choice under resampled validation prompts; see `selection.stability`.

    Attributes:
        n_candidates: Those that were scored in full and take part.
        winners: The most frequent first.
        none: The share of resamples in which no candidate passes.
        bypass: Of the chosen candidate, as are the two below.
    """

    n_resamples: int
    n_candidates: int
    winners: tuple[Winner, ...]
    none: float
    bypass: ScoreInterval
    induce: ScoreInterval
    kl: ScoreInterval


class OtherRule(Record):
    """What another rule would have chosen from the same candidates; nothing where none passes."""

    limits: SelectionLimits
    chosen: CandidateScores | None


class Selection(Record):
    """All candidates, the limits, the choice, and what it cost to find it."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    limits: SelectionLimits
    n_layers: int
    baseline_harmful: float | None
    baseline_harmless: float | None
    n_harmful: int | None
    n_harmless: int | None
    all_scores: bool
    sweeps: float | None
    """Validation sweeps through the whole model that were run; resumed ones count in part."""
    full_sweeps: int | None
    """What the paper's procedure would have run: 3 x positions x layers."""
    candidates: tuple[CandidateScores, ...]
    chosen: CandidateScores
    nearest: bool = False
    """No candidate passed, and this is the one that came nearest to the limits."""
    failed_limits: tuple[str, ...] = ()
    """The limits that the nearest one fails."""
    stability: Stability | None = None
    others: tuple[OtherRule, ...] = ()
    """What other rules would have chosen."""
    warnings: tuple[str, ...] = ()


Slot = tuple[str, Condition, int]
"""What a completion is of: data set, condition, index of the instruction."""


class Completion(Record):
    """One completion, as stored in completions/DATASET.CONDITION.jsonl.

    Attributes:
        completion: None where the copy of an imported run withholds it.
        n_tokens: None where an imported run does not say.
        ended: True where the model ended its turn, False where the token limit cut it, None where
            an imported run does not say.
        token_ids: What the model wrote, the end of its turn not among it; None in runs that do not
            say: imported ones, and those of versions before 0.2.
    """

    mend: ClassVar[str] = "move that file away, and write it anew with: refusalscope complete RUN"

    index: int
    dataset: str
    condition: Condition
    instruction: str
    category: str | None
    completion: str | None
    n_tokens: int | None
    ended: bool | None
    token_ids: tuple[int, ...] | None = None

    def to_line(self) -> str:
        """The record on one line; as it was read, also where it has no tokens."""
        if self.token_ids is not None:
            return super().to_line()
        known = self.model_dump(mode="json", exclude={"token_ids"})
        return json.dumps(known, ensure_ascii=False) + "\n"

    @property
    def slot(self) -> Slot:
        """What it is of."""
        return (self.dataset, self.condition, self.index)

    @property
    def text(self) -> str:
        """What the model wrote.

        Raises:
            RunFolderError: the copy of an imported run withholds it.
        """
        if self.completion is None:
            raise RunFolderError(
                f"completion {self.index} of {self.dataset}, {self.condition}, is withheld in the "
                f"copy that this run was imported from; name another data set"
            )
        return self.completion


Measure = Literal["refusal", "safety"]
"""What a judge's true flag means: it refused, or it is safe."""


class Judgement(Record):
    """What one judge says of one completion."""

    index: int
    dataset: str
    condition: Condition
    judge: str
    version: str
    flag: bool | None
    """Refusal judges: it refused. Safety judges: it is safe. None where the answer says neither."""
    raw: str
    """The judge's answer as it came; empty where none came."""
    unparsed: str | None = None
    """Why there is no flag."""
    score: float | None = None
    """The judge's own number, where it gives one; what it means stands with the judge."""
    note: str | None = None
    """What else the judge says of the completion, such as that it is cut within its reasoning."""


class Judgements(Record):
    """All judgements of one judge on one run."""

    mend: ClassVar[str] = "move it away, and judge the run anew"

    schema_version: Literal[1] = Field(default=1, alias="schema")
    judge: str
    version: str
    measures: Measure
    model: str | None = None
    """The model that judged; None for judges that are rules."""
    settings: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    rows: tuple[Judgement, ...]

    @property
    def n_unparsed(self) -> int:
        """How many answers gave no verdict; they are in no rate."""
        return sum(row.flag is None for row in self.rows)


class DatasetLoss(Record):
    """Cross-entropy of one text under one condition, in nats per token, token-weighted."""

    dataset: str
    condition: Condition
    loss: float
    n_tokens: int
    n_texts: int | None
    """None where an imported run does not say."""


class Losses(Record):
    """All losses of a run."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    rows: tuple[DatasetLoss, ...]


class InstructionCounts(Record):
    """How many instructions a split had, and how many the refusal metric kept."""

    name: str
    source: str
    sha256: str
    n_read: int
    n_sampled: int
    n_kept: int


class RefusalTokens(Record):
    """The tokens whose probability makes the refusal metric, and where they come from."""

    ids: tuple[int, ...]
    strings: tuple[str, ...]
    source: Literal["given", "registry", "proposed", "organism"]


class RenderedTemplate(Record):
    """What a chat template puts around an instruction, as it was rendered when the run began.

    A template that prints the date gives another text on another day; a run keeps its own.
    """

    before: str
    after: str
    adds_special_tokens: bool
    """Whether the tokenizer adds its own (BOS)."""
    answer_prefix: str = ""
    """The end of `after` that is none of the template's: what every answer begins with."""
    day: date | None = None
    """What a template that asks for the time was told; None in runs that did not keep it."""


class ModelFacts(Record):
    """What is needed to know which model a run was about; an imported run leaves much None."""

    name: str
    source: str
    """Folder or hub id as given."""
    architecture: str | None
    n_layers: int
    d_model: int | None
    n_parameters: int | None
    dtype: str | None
    weights_sha256: str | None
    settings_sha256: str | None
    """Of config and tokenizer files."""
    template_sha256: str | None
    """Of `rendered`."""
    family: str | None
    alignment: str | None
    revision: str | None = None
    system_prompt: str | None = None
    template: Literal["model", "paper"] = "model"
    post_instruction_tokens: tuple[str, ...]
    refusal_tokens: RefusalTokens | None
    is_organism: bool = False
    rendered: RenderedTemplate | None = None
    """None in runs of versions that did not keep it, and in imported ones."""


Label = Literal["answers", "metric"]
"""What says that a prompt is refused: the model's answer, or the refusal metric of the paper."""


class LabelCounts(Record):
    """How many prompts of one set are refused, by either way to say so; None where not asked."""

    name: str
    n: int
    n_answers: int | None
    """Whose greedy answer refuses."""
    n_metric: int | None
    """Whose refusal metric is above the paper's 0."""
    n_both: int | None


class TokenSetError(Record):
    """A set of refusal tokens, and how well it tells refusals from answers of training prompts.

    Attributes:
        threshold: Log-odds, nats, at which it tells them apart best; None where refusals do not
            have the higher metric.
        error: Balanced error at that threshold: the mean of two shares, refusals at or below it and
            answers above it.
        error_at_zero: The same at 0, as in the paper.
    """

    ids: tuple[int, ...]
    strings: tuple[str, ...]
    threshold: float | None
    error: float | None
    error_at_zero: float


class Calibration(Record):
    """The log-odds at which this model's refusals and answers are best told apart, in nats.

    Attributes:
        low: Of the 95 % bootstrap interval over training prompts.
        sets: Sets of refusal tokens that were tried, the one in use last.
    """

    threshold: float
    low: float
    high: float
    n_refused: int
    n_answered: int
    sets: tuple[TokenSetError, ...]


class NoDirection(Record):
    """Why a run has no direction; what it measured all the same stands in its other files."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    reason: Literal["refuses too little", "answers too little", "no refusal token", "no candidate"]
    text: str


class ExtractionFacts(Record):
    """What extraction read and kept."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    counts: tuple[InstructionCounts, ...]
    kept: dict[str, tuple[int, ...]]
    """For each validation set the indices of the instructions that the filter kept."""
    positions: tuple[int, ...]
    n_layers: int
    d_model: int
    label: Label = "metric"
    estimator: Estimator = PLAIN
    """What made the candidates of the means and variances."""
    channels: tuple[ChannelCheck, ...] = ()
    """How far one channel owns the difference in means, where the means differ; none in runs of
    versions that did not look."""
    contrast: Contrast | None = None
    """What tells the instructions apart without a model; None where it was not measured."""
    labels: tuple[LabelCounts, ...] = ()
    calibration: Calibration | None = None
    warnings: tuple[str, ...] = ()


class DirectionFacts(Record):
    """The chosen direction, in words and numbers."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: str
    position: int
    layer: int
    n_layers: int
    d_model: int
    norm: float
    bypass: float | None
    induce: float | None
    kl: float | None
    harmful_projection: float | None = None
    """Mean projection of harmful training activations on the unit direction."""
    harmless_projection: float | None = None


class MadeWith(Record):
    """What a measurement beside the stages was made with.

    Attributes:
        version: Of the measure.
        settings: Its options, and digests of whatever else it was given.
        stages: The stages of the run that it rests on, with the hash of their inputs and options.
    """

    version: int
    settings: dict[str, object]
    stages: dict[str, str]


class RunManifest(Record):
    """run.json: everything needed to repeat the run. Timings are in timings.json."""

    mend: ClassVar[str] = "start the run again in a new folder"

    schema_version: Literal[1] = Field(default=1, alias="schema")
    options: dict[str, object]
    versions: dict[str, str]
    model: ModelFacts
    inputs: tuple[InstructionCounts, ...]
    stages: dict[str, str]
    """Stage name to the hash of its inputs and options."""
    command: str
    measured: dict[str, MadeWith] = Field(default_factory=dict)
    """By the file of the record, what each measurement was made with."""
    warnings: tuple[str, ...] = ()
    imported_from: str | None = None
    """Folder of another code's run that this one was made from; it has no stages."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do but to write the page anew."""
        return "report" in self.stages or self.imported_from is not None


class SummaryDirection(Record):
    """The chosen direction in summary.json."""

    position: int
    layer: int
    n_layers: int
    bypass: float | None
    induce: float | None
    kl: float | None


class OutcomeShares(Record):
    """Shares of the three outcomes of `n` answers; they add up to 1."""

    refused: float
    complied: float
    degenerate: float
    n: int


class SummarySelection(Record):
    """How the direction was chosen.

    Attributes:
        passes: It is within every limit.
        nearest: It is not, and came nearest.
        failed_limits: Those that it fails.
        no_direction: Why there is none.
    """

    passes: bool
    nearest: bool
    failed_limits: tuple[str, ...] = ()
    rule: Rule | None = None
    min_induce: float | None = None
    no_direction: str | None = None


class Summary(Record):
    """summary.json: the headline numbers. Stable; additions are free."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: dict[str, object]
    direction: SummaryDirection | None
    """None where the run found none; `selection` says why."""
    refusal: dict[str, dict[str, Rate]]
    safety: dict[str, dict[str, Rate] | str]
    loss: dict[str, dict[str, float]]
    judges: dict[str, dict[str, dict[str, Rate]]] = Field(default_factory=dict)
    """Every judge's rates by data set and condition; `refusal` and `safety` show one judge each."""
    selection: SummarySelection | None = None
    outcomes: dict[str, dict[str, OutcomeShares]] = Field(default_factory=dict)
    """By data set and condition; refused as `refusal_judge` says."""
    refusal_judge: str | None = None
    """The judge that `refusal` shows; None in summaries of versions that did not say."""
    changes: dict[str, dict[str, dict[str, RateChange]]] = Field(default_factory=dict)
    """Every judge's changes from baseline, paired, by data set and condition."""
    controls: tuple[ControlRange, ...] = ()
    """The range over several random directions, of the first token's refusal metric."""
    measures: dict[str, dict[str, object]] = Field(default_factory=dict)
    """What measures that were measured say in short, by the measure's name."""
    warnings: tuple[str, ...] = ()
