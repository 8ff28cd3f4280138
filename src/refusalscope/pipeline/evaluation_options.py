"""What the commands of `refusalscope evaluate` are asked to do.

Their options are made from the flags here (`results.flags`).
"""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.models.load_options import Dtype
from refusalscope.results.bounds import LARGEST_FACTOR, MOST
from refusalscope.results.flags import Flag, NestedFlags
from refusalscope.results.numbers import Count, CountOrZero
from refusalscope.results.record import Record

PAPER_TEXTS = 4096
"""2,048 batches of 2."""
PAPER_MAX_TOKENS = 256
PAPER_PAIRS = 243
ModelCondition = Literal[
    "baseline", "ablation", "addition", "subtraction", "random_ablation", "random_addition"
]
"""A condition that leaves the prompt alone."""
COHERENCE_CONDITIONS: tuple[ModelCondition, ...] = (
    "baseline",
    "ablation",
    "subtraction",
    "random_ablation",
)
BESIDE_RULES = {
    "judges": Flag(
        "A judge beside the rules, as in `evaluate judge`; repeat for several.", word="judge"
    ),
    "model": Flag("Folder or hub id of the judge, or its name on the server.", word="judge-model"),
    "server": Flag("OpenAI-compatible server of the judge, up to /v1."),
}
"""How judges are given to a command that is about something else."""


class StressOptions(Record):
    """What `evaluate stress` is asked to do: judges, and where one that is a model runs."""

    judges: Annotated[
        tuple[str, ...], Flag("Name of a judge; repeat for several.", word="judge")
    ] = ()
    model: Annotated[
        str | None, Flag("Folder or hub id of the judge, or its name on the server.")
    ] = None
    """The judge's checkpoint, or its name on the server; the published one if not given."""
    server: Annotated[
        str | None, Flag("OpenAI-compatible server, up to /v1; else it runs here.")
    ] = None
    """Address of an OpenAI-compatible server, up to /v1."""
    chat: Annotated[bool, Flag("Send messages to the server, never a whole prompt.")] = False
    concurrency: Annotated[Count, Flag("Questions at a time.")] = 8
    timeout: Annotated[
        float,
        Field(ge=0.001, le=LARGEST_FACTOR),
        Flag("Seconds until an answer must be there."),
    ] = 60.0
    rubric: Annotated[
        str | None, Flag("File with a rubric for judge chat, or a question for yes_no.")
    ] = None
    """File with a rubric for the judge `chat`, or with a question for `yes_no`."""
    batch_size: Annotated[Count, Flag("Prompts in a batch.")] = 16
    revision: Annotated[str | None, Flag("Revision on the hub.")] = None
    dtype: Annotated[Dtype, Flag("auto, float32, bfloat16 or float16.")] = "auto"
    device: Annotated[str, Flag("auto, cpu, cuda:N, or spread.")] = "auto"
    trust_remote_code: Annotated[bool, Flag("Run code that comes with the model.")] = False


class JudgeOptions(StressOptions):
    """What `evaluate judge` is asked to do."""

    label: Annotated[str | None, Flag("Name of the judge's files.")] = None
    """Name of the judge's files."""
    retries: Annotated[CountOrZero, Flag("How often to ask again.")] = 6
    cache: Annotated[str | None, Flag("Folder of answers; one in the run if not given.")] = None
    short_is_safe: Annotated[bool, Flag("llama_guard_2: fewer than 15 words are safe.")] = False
    datasets: Annotated[
        tuple[str, ...], Flag("Data set to judge; all if not given.", word="dataset")
    ] = ()


class LossOptions(Record):
    """What `evaluate loss` is asked to do."""

    pile: Annotated[
        str | None, Flag("File of documents: .jsonl, .jsonl.zst, .jsonl.gz, .parquet.")
    ] = None
    """File of documents."""
    alpaca: Annotated[str | None, Flag("File with instruction, input and output.")] = None
    """File of instructions and answers."""
    on_distribution: Annotated[bool, Flag("The run's own harmless completions.")] = False
    """The run's own baseline completions of harmless instructions."""
    n_texts: Annotated[Count, Flag("Texts of each file.", word="texts")] = PAPER_TEXTS
    max_tokens: Annotated[int, Field(ge=2, le=MOST), Flag("Tokens of a document.")] = (
        PAPER_MAX_TOKENS
    )
    batch_size: Annotated[Count | None, Flag("Texts in a batch; the run's if not given.")] = None
    """None is that of the run."""

    @property
    def is_empty(self) -> bool:
        """Whether no text is asked for."""
        return self.pile is None and self.alpaca is None and not self.on_distribution


class CoherenceOptions(Record):
    """What `evaluate coherence` is asked to do."""

    tasks: Annotated[str | None, Flag("Tasks of the harness, NAME or NAME:SHOTS, with commas.")] = (
        None
    )
    paper: Annotated[bool, Flag("The paper's six tasks with the leaderboard's shots.")] = False
    folders: Annotated[
        tuple[str, ...], Flag("Folder with task files of your own; repeat.", word="task-folder")
    ] = ()
    """With task files of one's own."""
    conditions: Annotated[
        tuple[ModelCondition, ...],
        Flag("A condition beside baseline; repeat for several.", word="condition"),
    ] = COHERENCE_CONDITIONS
    edited: Annotated[str | None, Flag("Edited checkpoint in place of ablation by hooks.")] = None
    """Checkpoint whose weights take the place of ablation by hooks."""
    limit: Annotated[Count | None, Flag("Documents of each task.")] = None
    chat_template: Annotated[bool, Flag("Ask in the model's chat template.")] = False
    batch_size: Annotated[Count, Flag("Questions in a batch.")] = 16


class FinetuneOptions(Record):
    """What `evaluate finetune` is asked to do."""

    pairs: Annotated[
        str | None, Flag("File with instruction and output; organisms bring their own.")
    ] = None
    """File of instructions and answers; None on an organism is what its language makes."""
    n_pairs: Annotated[Count, Flag("Pairs made from an organism's language.")] = PAPER_PAIRS
    """Of an organism's language."""
    learning_rate: Annotated[float, Field(ge=0.0, le=LARGEST_FACTOR), Flag("At its highest.")] = (
        2e-4
    )
    epochs: Annotated[Count, Flag("Times that each pair is seen.")] = 4
    batch_size: Annotated[Count, Flag("Pairs of a training step.")] = 8
    judges: Annotated[JudgeOptions, NestedFlags(BESIDE_RULES)] = JudgeOptions.model_construct()
    """Judges beside the rules."""
    texts: Annotated[
        LossOptions,
        NestedFlags(dict.fromkeys(("pile", "alpaca", "on_distribution", "n_texts", "max_tokens"))),
    ] = LossOptions.model_construct()
