"""What a run is asked to do; written to run.json and read back when a run is continued."""

from typing import ClassVar, Literal

from refusalscope.models.chat_model import LoadOptions
from refusalscope.organisms.organism import DEFAULT_ORGANISM
from refusalscope.results.record import Record
from refusalscope.results.records import SelectionLimits

ORGANISM_PREFIX = "organism:"


class RunOptions(Record):
    """Options of a run. Paths are kept as given."""

    mend: ClassVar[str] = "continue it with that version, or start it again in a new folder"
    is_exact: ClassVar[bool] = True

    model: str = ORGANISM_PREFIX + DEFAULT_ORGANISM
    """A folder, a hub id, or `organism:NAME` for a bundled organism."""
    harmful: str | None = None
    """File of harmful instructions or name of a data set, divided into train, validation and
    test."""
    harmless: str | None = None
    datasets: str | None = None
    """Folder with the files of named data sets; without it they come from the hub."""
    splits: str | None = None
    """Folder of the paper's splits, sampled as its code samples them."""
    harmful_test: str | None = None
    """File of harmful test instructions, in place of the test part of the above."""
    harmless_test: str | None = None
    n_train: int = 128
    n_val: int = 32
    n_test: int = 100
    seed: int = 0
    filter_instructions: bool = True
    """Keep harmful training and validation prompts whose refusal metric is above 0, harmless ones
    whose is below (paper appendix B)."""
    refusal_tokens: tuple[str, ...] = ()
    """Strings of one token each, or ids; proposed or from the registry where empty."""
    limits: SelectionLimits = SelectionLimits()
    all_scores: bool = False
    max_new_tokens: int | None = None
    """None is 512, or what an organism says is enough for its short answers."""
    paper_generation: bool = False
    """Run past the end of turn to the token limit, as the paper's code did."""
    batch_size: int = 64
    random_suffix: int | None = None
    """Tokens of a random suffix tried on every test instruction; None is 20 for organisms and 0
    for other models."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    system: str | None = None
    template: Literal["model", "paper"] = "model"

    def load_options(self) -> LoadOptions:
        """The part that concerns loading the model."""
        return LoadOptions(
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            trust_remote_code=self.trust_remote_code,
            system=self.system,
            template=self.template,
        )
