"""The six sets of instructions of a run: harmful and harmless, train, validation and test."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalscope.data.instruction import Instruction, instructions_digest
from refusalscope.data.overlap import require_disjoint
from refusalscope.data.paper import PAPER_SEED, sample_paper_splits
from refusalscope.data.read import InstructionFile, read_instructions
from refusalscope.data.sources import read_file_or_source
from refusalscope.data.split import split_instructions
from refusalscope.errors import InputError
from refusalscope.organisms.language import Language
from refusalscope.organisms.sentences import Role
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.records import InstructionCounts

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionSet:
    """One set with where it came from."""

    name: str
    source: str
    n_read: int
    instructions: tuple[Instruction, ...]
    warnings: tuple[str, ...] = ()
    """What was left out of its file, with counts."""

    def counts(self, *, n_kept: int | None = None) -> InstructionCounts:
        """The record of this set; all are kept where no filter ran."""
        return InstructionCounts(
            name=self.name,
            source=self.source,
            sha256=instructions_digest(self.instructions),
            n_read=self.n_read,
            n_sampled=len(self.instructions),
            n_kept=len(self.instructions) if n_kept is None else n_kept,
        )


InstructionSets = dict[str, InstructionSet]
"""By name: harmful_train, harmless_train, harmful_val, harmless_val, harmful, harmless (test)."""


def read_instruction_sets(options: RunOptions, language: Language | None) -> InstructionSets:
    """Read or draw all six sets and check that no text is in two of them.

    Args:
        language: That of the organism under study; its own requests are used where no file is
            given.

    Raises:
        InputError: no source of instructions, or only one of harmful and harmless.
        InstructionsError: a file is unreadable, a split empty, or sets overlap.
    """
    if (options.harmful is None) != (options.harmless is None):
        raise InputError("--harmful and --harmless belong together; give both files or neither")
    if options.datasets is not None and not Path(options.datasets).is_dir():
        raise InputError(
            f"--datasets {options.datasets!r} is no folder; give the folder with the files of the "
            f"named data sets, or leave it away"
        )
    if options.splits is not None and options.harmful is not None:
        raise InputError("--splits and --harmful/--harmless exclude each other; give one of them")
    files = (
        *(options.harmful, options.harmful_test),
        *(options.harmless, options.harmless_test),
    )
    if options.columns and not any(files):
        raise InputError("--column names a column of a file; give --harmful and --harmless too")
    if options.columns and all(Path(path).suffix.lower() == ".txt" for path in files if path):
        raise InputError("--column names a column, and .txt files have none; leave it away")
    if options.splits is not None:
        sets = _from_paper_splits(Path(options.splits), options)
    elif options.harmful is not None and options.harmless is not None:
        sets = {
            **_from_file("harmful", options.harmful, options),
            **_from_file("harmless", options.harmless, options),
        }
    elif language is not None:
        sets = _from_language(language, options)
    else:
        raise InputError(
            "no instructions: give --harmful and --harmless, each a file or a data set's name, or "
            "--splits FOLDER with the paper's splits (only organisms bring their own)"
        )
    for name, path in (("harmful", options.harmful_test), ("harmless", options.harmless_test)):
        if path is not None:
            sets[name] = _whole_file(name, path, options)
    require_disjoint({name: list(s.instructions) for name, s in sets.items()})
    return sets


def _from_file(name: str, path: str, options: RunOptions) -> InstructionSets:
    return divide(name, read_given(path, options, columns=options.columns), options, source=path)


def divide(
    name: str, read: InstructionFile, options: RunOptions, *, source: str
) -> InstructionSets:
    """Divide instructions of one kind into train, validation and test.

    Args:
        name: harmful or harmless.
        source: What the records say they come from.

    Raises:
        InstructionsError: a part would be empty.
    """
    split = split_instructions(
        read.instructions,
        options.seed,
        n_train=options.n_train,
        n_val=options.n_val,
        n_test=options.n_test,
    )
    for part, count in split.counts.items():
        if count.is_short:
            _LOG.warning(
                "%s has %d %s instructions, %s were asked for; all are used",
                source,
                count.available,
                part,
                count.requested,
            )
    parts = {f"{name}_train": split.train, f"{name}_val": split.val, name: split.test}
    return {
        part: InstructionSet(
            name=part,
            source=source,
            n_read=len(read.instructions),
            instructions=rows,
            warnings=read.warnings,
        )
        for part, rows in parts.items()
    }


def read_given(path: str, options: RunOptions, *, columns: Sequence[str] = ()) -> InstructionFile:
    """A file of instructions, or a data set by its name in the run's folder of them.

    Raises:
        InstructionsError: it is none.
    """
    folder = None if options.datasets is None else Path(options.datasets)
    return read_file_or_source(path, folder, columns=columns)


def _whole_file(name: str, path: str, options: RunOptions) -> InstructionSet:
    read = read_given(path, options, columns=options.columns)
    unique = tuple({i.text: i for i in read.instructions}.values())
    return InstructionSet(
        name=name,
        source=path,
        n_read=len(read.instructions),
        instructions=unique,
        warnings=read.warnings,
    )


def _from_paper_splits(folder: Path, options: RunOptions) -> InstructionSets:
    sample = sample_paper_splits(
        folder, PAPER_SEED, n_train=options.n_train, n_val=options.n_val, n_test=options.n_test
    )
    harmful_test = read_instructions(folder / "harmful_test.json")[: options.n_test]
    parts = {
        "harmful_train": sample.harmful_train,
        "harmless_train": sample.harmless_train,
        "harmful_val": sample.harmful_val,
        "harmless_val": sample.harmless_val,
        "harmful": tuple(harmful_test),
        "harmless": sample.harmless_test,
    }
    return {
        name: InstructionSet(
            name=name, source=str(folder), n_read=len(rows), instructions=tuple(rows)
        )
        for name, rows in parts.items()
    }


def _from_language(language: Language, options: RunOptions) -> InstructionSets:
    sizes: dict[Role, int] = {
        "train": options.n_train,
        "val": options.n_val,
        "test": options.n_test,
    }
    sets: InstructionSets = {}
    for role, n in sizes.items():
        for is_harmful in (True, False):
            kind = "harmful" if is_harmful else "harmless"
            name = kind if role == "test" else f"{kind}_{role}"
            requests = language.instructions(role, harmful=is_harmful, n=n, seed=options.seed)
            rows = tuple(Instruction(r.instruction, r.thing.kind) for r in requests)
            sets[name] = InstructionSet(
                name=name, source="the organism's language", n_read=len(rows), instructions=rows
            )
    return sets
