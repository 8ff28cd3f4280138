"""What a run is asked to do; written to run.json and read back when a run is continued.

The options of `refusalscope run` are made from the flags here (`results.flags`).
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import model_serializer

from refusalscope.models.load_options import Dtype, LoadOptions
from refusalscope.organisms.named import DEFAULT_ORGANISM, ORGANISM_PREFIX
from refusalscope.results.estimator_records import PLAIN, Estimator
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, CountOrZero, Factor, Seed
from refusalscope.results.record import Record
from refusalscope.results.records import Calibration, Label, Rule, SelectionLimits


class LimitOptions(Record):
    """The limits as asked for; see `results.records.SelectionLimits`."""

    is_exact: ClassVar[bool] = True

    max_kl: Annotated[Factor, Flag("Reject candidates above this KL, nats.")] = 0.1
    min_induce: Annotated[
        Factor | None,
        Flag("Reject candidates below this induce; 0, or calibrated, if not given."),
    ] = None
    """None is 0, as in the paper, or what calibration finds, under the calibrated rule."""
    max_layer_fraction: Annotated[
        Factor, Flag("Reject candidates from this share of the layers on.")
    ] = 0.8
    rule: Annotated[
        Literal["auto", "published", "code", "calibrated"],
        Flag("Limits: auto, published, code (the paper's), or calibrated."),
    ] = "auto"
    """`auto` is published for the paper's families, for organisms, and where `min_induce` is given;
    calibrated for all other models."""

    def rule_of(self, is_papers: bool) -> Rule:
        """The rule that is meant.

        Args:
            is_papers: The model is of one of the paper's families, or an organism.
        """
        if self.rule != "auto":
            return self.rule
        return "published" if is_papers or self.min_induce is not None else "calibrated"

    def is_calibrated(self, is_papers: bool) -> bool:
        """Whether the limits depend on what the model answers."""
        return self.rule_of(is_papers) == "calibrated" and self.min_induce is None

    def resolved(self, is_papers: bool, calibration: Calibration | None) -> SelectionLimits:
        """The limits in numbers."""
        rule = self.rule_of(is_papers)
        found = 0.0 if calibration is None else calibration.threshold
        own = found if rule == "calibrated" else 0.0
        return SelectionLimits(
            max_kl=self.max_kl,
            min_induce=own if self.min_induce is None else self.min_induce,
            max_layer_fraction=self.max_layer_fraction,
            rule=rule,
        )


LeftOut = Literal["loss", "project", "side-conditions"]
ALIKE = ("engine", "by", "vllm_python", "tensor_parallel", "without")
"""Options on what writes completions and on what is left out: no number depends on them."""
CHANGEABLE = ("limits", "all_scores", "strict", *ALIKE)
"""Options that a run may be continued with another value of: the others decide the choice alone."""


class RunOptions(Record):
    """Options of a run. Paths are kept as given."""

    mend: ClassVar[str] = "continue it with that version, or start it again in a new folder"
    is_exact: ClassVar[bool] = True

    model: Annotated[
        str, Flag("Folder, hub id, or organism:NAME.", is_argument=True, metavar="[MODEL]")
    ] = ORGANISM_PREFIX + DEFAULT_ORGANISM
    """A folder, a hub id, or `organism:NAME` for a bundled organism."""
    harmful: Annotated[str | None, Flag("Harmful instructions: a file, or a data set's name.")] = (
        None
    )
    """File of harmful instructions or name of a data set, divided into train, validation and
    test."""
    harmless: Annotated[
        str | None, Flag("Harmless instructions: a file, or a data set's name.")
    ] = None
    datasets: Annotated[str | None, Flag("Folder of the named data sets; else from the hub.")] = (
        None
    )
    """Folder with the files of named data sets; without it they come from the hub."""
    columns: Annotated[
        tuple[str, ...],
        Flag("Column of the instruction in the files; repeat for several.", word="column"),
    ] = ()
    """Columns of the instruction: each file has one of them; known ones where empty."""
    splits: Annotated[str | None, Flag("Folder of the paper's splits.")] = None
    """Folder of the paper's splits, sampled as its code samples them."""
    harmful_test: Annotated[str | None, Flag("Harmful test instructions.")] = None
    """File of harmful test instructions, in place of the test part of the above."""
    harmless_test: Annotated[str | None, Flag("Harmless test instructions.")] = None
    n_train: Annotated[Count, Flag("Training instructions of each kind.")] = 128
    n_val: Annotated[Count, Flag("Validation instructions of each kind.")] = 32
    n_test: Annotated[Count, Flag("Test instructions of each kind.")] = 100
    seed: Annotated[Seed, Flag("Seed of splits and of the random controls.")] = 0
    filter_instructions: Annotated[
        bool,
        Flag("Keep instructions of either refusal metric.", word="no-filter", is_negated=True),
    ] = True
    """Keep harmful training and validation prompts that the model refuses, and harmless ones that
    it does not (paper appendix B)."""
    label: Annotated[
        Literal["auto", "answers", "metric"],
        Flag("What says that a prompt is refused: auto, answers, or the metric."),
    ] = "auto"
    """What says that it refuses: its short greedy answer, or a refusal metric above 0 as in the
    paper. `auto` is the metric for the paper's families and organisms, else the answers."""
    refusal_tokens: Annotated[
        tuple[str, ...],
        Flag("Token that marks a refusal; repeat for several.", word="refusal-token"),
    ] = ()
    """Strings of one token each, or ids; proposed or from the registry where empty."""
    estimator: Annotated[
        Estimator,
        Flag(
            "What makes the candidates: difference_in_means, masked, winsorised, discriminant, "
            "or projected."
        ),
    ] = PLAIN
    """What makes the candidates of the means and variances; see `activations.estimators`."""
    limits: LimitOptions = LimitOptions.model_construct()
    all_scores: Annotated[bool, Flag("Score every candidate in full.")] = False
    strict: Annotated[bool, Flag("Stop with an error where no candidate passes.")] = False
    """Stop with an error where no candidate passes, in place of going on with the nearest."""
    max_new_tokens: Annotated[Count | None, Flag("Tokens of a completion; 512 if not given.")] = (
        None
    )
    """None is 512, or what an organism says is enough for its short answers."""
    paper_generation: Annotated[bool, Flag("Generate past the end of turn.")] = False
    """Run past the end of turn to the token limit, as the paper's code did."""
    batch_size: Annotated[Count, Flag("Prompts in a batch.")] = 64
    random_suffix: Annotated[CountOrZero | None, Flag("Tokens of a random suffix to try.")] = None
    """Tokens of a random suffix tried on every test instruction; None is 20 for organisms and 0
    for other models."""
    engine: Annotated[
        Literal["transformers", "vllm"],
        Flag("What writes completions: transformers, or vllm, proven against it."),
    ] = "transformers"
    """`vllm` is run by `vllm_python`, and writes nothing where its log-probabilities differ from
    those of transformers under any condition; see `generate.vllm_engine`."""
    by: Annotated[
        Literal["hooks", "weights"],
        Flag("Where vLLM intervenes: hooks in its workers, or weights of edited checkpoints."),
    ] = "hooks"
    vllm_python: Annotated[
        str | None, Flag("Python of the environment that has vLLM; else this one.")
    ] = None
    tensor_parallel: Annotated[Count, Flag("Devices that vLLM divides each layer over.")] = 1
    without: Annotated[
        tuple[LeftOut, ...],
        Flag(
            "Leave out: loss, project, or side-conditions, under which nothing is to change; "
            "repeat for several."
        ),
    ] = ()
    """Stages to leave out, and `side-conditions`: harmless instructions under ablation and random
    ablation, harmful ones under a random addition. A run that is continued without the option makes
    up for them."""
    revision: Annotated[str | None, Flag("Revision on the hub.")] = None
    dtype: Annotated[Dtype, Flag("auto, float32, bfloat16 or float16.")] = "auto"
    device: Annotated[str, Flag("auto, cpu, cuda:N, or spread.")] = "auto"
    trust_remote_code: Annotated[bool, Flag("Run code that comes with the model.")] = False
    system: Annotated[str | None, Flag("System prompt.")] = None
    template: Annotated[
        Literal["model", "paper"],
        Flag("The model's own chat template, or the paper's: model, paper."),
    ] = "model"
    answer_prefix: Annotated[
        str | None, Flag("What every answer begins with; looked for without it.")
    ] = None
    """What every answer begins with, put into the prompt. None looks whether there is such a
    beginning, for models that are neither of the paper's families nor organisms; empty is none."""

    def label_of(self, is_papers: bool) -> Label:
        """What says that a prompt is refused.

        Args:
            is_papers: The model is of one of the paper's families, or an organism.
        """
        if self.label != "auto":
            return self.label
        return "metric" if is_papers else "answers"

    def looks_for_prefix(self, is_papers: bool) -> bool:
        """Whether to look for what all answers begin with."""
        by_answers = self.filter_instructions and self.label_of(is_papers) == "answers"
        return self.answer_prefix is None and by_answers and not is_papers

    @model_serializer(mode="wrap")
    def _without_unused(self, write: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """Leave out an option that runs of earlier versions do not have and that says nothing.

        Runs are recognised by their options: one that was made before goes on.
        """
        unused = {
            "columns": [],
            "answer_prefix": None,
            "estimator": PLAIN,
            "engine": "transformers",
            "by": "hooks",
            "vllm_python": None,
            "tensor_parallel": 1,
            "without": [],
        }
        return {k: v for k, v in write(self).items() if k not in unused or v != unused[k]}

    def load_options(self) -> LoadOptions:
        """The part that concerns loading the model."""
        return LoadOptions(
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            trust_remote_code=self.trust_remote_code,
            system=self.system,
            template=self.template,
            answer_prefix=self.answer_prefix or "",
        )
