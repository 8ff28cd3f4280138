"""What `refusalscope audit` is asked to do."""

from pathlib import Path
from typing import Annotated

from refusalscope.measures.decoys.record import DecoyOptions
from refusalscope.measures.dose.record import DoseOptions
from refusalscope.measures.ladder.record import LadderOptions, rungs_of
from refusalscope.measures.over_refusal.record import OverRefusalOptions
from refusalscope.pipeline.options import LeftOut, RunOptions
from refusalscope.results.attack_records import PROMPT_ATTACKS
from refusalscope.results.borderline_options import BorderlineSource
from refusalscope.results.flags import Flag
from refusalscope.results.record import Record

QUICK_TESTS = 20
"""Test instructions of each kind, at most, in a quick audit."""
QUICK_TRAIN, QUICK_VAL = 32, 12
"""Training and validation instructions of each kind, at most, in a quick audit: on the real model
here 32 gave a direction with a cosine of 0.97 with that of all (`measure stability`)."""
QUICK_TOKENS = 24
"""Tokens of an answer, at most, where nothing else is asked for."""

UNREAD: tuple[LeftOut, ...] = ("loss", "project")
"""Stages of a run that no part of an audit reads."""
QUICK_RUNGS = (
    *("baseline", *PROMPT_ATTACKS, "ablation", "rank_1", "rank_2", "subtraction", "optimised"),
    "lora_30",
)
"""All that a quick audit would have but the edited weights, which answer as under ablation."""


class AuditOptions(Record):
    """A run's options, and what the audit needs beside them."""

    run: RunOptions = RunOptions()
    borderline: BorderlineSource = None
    pairs: Annotated[
        str | None,
        Flag("File with instruction and output to tune on; organisms bring their own."),
    ] = None
    base: Annotated[
        str | None, Flag("Folder of the checkpoint that this one was made from, to compare with.")
    ] = None
    quick: Annotated[bool, Flag("Fewer instructions, shorter answers, less search.")] = False

    def require_sense(self) -> None:
        """Refuse, before a long run, what could only fail after it.

        Raises:
            InputError: the file of pairs, of borderline instructions or the base is not one.
        """
        rungs_of(self.ladder())
        if self.borderline is not None:
            from refusalscope.data.sources import read_file_or_source  # noqa: PLC0415 - numpy

            folder = None if self.run.datasets is None else Path(self.run.datasets)
            read_file_or_source(self.borderline, folder)
        if self.base is not None:
            from refusalscope.models.chat_model import require_source  # noqa: PLC0415 - torch

            require_source(self.base)

    def run_options(self) -> RunOptions:
        """The options of the run, without what no part of an audit reads; shorter where quick."""
        if not self.quick:
            left_out = (*self.run.without, *UNREAD)
            return self.run.model_copy(update={"without": tuple(dict.fromkeys(left_out))})
        is_organism = self.run.model.startswith("organism:")
        tokens = None if is_organism else QUICK_TOKENS
        return self.run.model_copy(
            update={
                "n_train": min(self.run.n_train, QUICK_TRAIN),
                "n_val": min(self.run.n_val, QUICK_VAL),
                "n_test": min(self.run.n_test, QUICK_TESTS),
                "max_new_tokens": self.run.max_new_tokens or tokens,
                "without": (*UNREAD, "side-conditions"),
            }
        )

    def ladder(self) -> LadderOptions:
        """How much each rung is given."""
        if not self.quick:
            return LadderOptions(pairs=self.pairs)
        return LadderOptions(
            pairs=self.pairs,
            rungs=QUICK_RUNGS,
            search_steps=4,
            search_candidates=16,
            search_prompts=2,
            ranks=(1, 2),
            rank_prompts=12,
            optimise_steps=4,
            n_pairs=(30,),
        )

    def dose(self) -> DoseOptions:
        """At which strengths."""
        return DoseOptions(strengths=(0.0, 0.5, 1.0)) if self.quick else DoseOptions()

    def decoys(self) -> DecoyOptions:
        """Which rivals; the optimised direction is the ladder's."""
        ladder = self.ladder()
        return DecoyOptions(
            optimise_steps=ladder.optimise_steps,
            optimise_prompts=ladder.rank_prompts,
            cosmic=not self.quick,
        )

    def over_refusal(self) -> OverRefusalOptions:
        """Which instructions are borderline."""
        own = OverRefusalOptions(borderline=self.borderline)
        return own.model_copy(update={"n_borderline": QUICK_TESTS}) if self.quick else own
