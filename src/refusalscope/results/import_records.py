"""What an import of another code's run found: import.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record

IMPORT = "import.json"


class FlagCheck(Record):
    """Flags that the run's refusal judge stored, beside ours on the same texts.

    Attributes:
        n_stored: Flags in the copy.
        n_compared: Those whose text is in the copy too.
        n_different: Texts on which ours says something else; the stored flag is kept.
    """

    n_stored: int
    n_compared: int
    n_different: int


class ImportFacts(Record):
    """import.json: where the run came from, and whether our choice is its choice.

    Attributes:
        stored_choice: Position and layer; None where the copy does not say what was chosen.
        recomputed_choice: From the copy's scores, by the rule of the paper's code.
        same_choice: None with `stored_choice`.
        published_choice: From the same scores by the rule as the paper states it; None where no
            candidate passes it.
        sweeps: Validation sweeps that the lazy search would have run, in whole passes.
        same_direction: Whether the stored direction is the candidate at the stored choice; None
            where the copy lacks one of the two tensors.
        absent: Parts that the copy does not have.
        n_withheld: Completions whose text the copy leaves out.
        quirks: What is known to be odd about such runs and bears on this one.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    source: str
    stored_choice: tuple[int, int] | None
    recomputed_choice: tuple[int, int]
    same_choice: bool | None
    published_choice: tuple[int, int] | None
    sweeps: float
    full_sweeps: int
    same_direction: bool | None
    flags: FlagCheck
    absent: tuple[str, ...]
    n_withheld: int
    quirks: tuple[str, ...]
