"""The instruction sets that the paper names, read from where the user has them.

None of them is bundled: most hold harmful requests, and one forbids commercial use. Each is read
from the file that its authors publish, or from the {"instruction", "category"} form of the paper's
repository.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from refusalscope.data.instruction import Instruction
from refusalscope.data.read import (
    InstructionFile,
    column_category,
    column_text,
    read_instruction_file,
    read_instructions,
)
from refusalscope.data.rows import read_rows
from refusalscope.errors import InstructionsError

HUB_PREFIX = "hf:"
_log = logging.getLogger(__name__)

_GITHUB = "https://raw.githubusercontent.com"


def _every_row(_row: Mapping[str, object]) -> bool:
    return True


def _is_standard(row: Mapping[str, object]) -> bool:
    """Whether a HarmBench row asks for no copyrighted text and comes with no context."""
    kind = str(row.get("FunctionalCategory") or "").lower()
    return "copyright" not in kind and "context" not in str(row.get("Tags") or "").lower()


def _is_safe(row: Mapping[str, object]) -> bool:
    """Whether an XSTest prompt only looks unsafe; the others are named contrasts."""
    return not str(row.get("type") or "").startswith("contrast_")


def _is_contrast(row: Mapping[str, object]) -> bool:
    """Whether an XSTest prompt is unsafe indeed."""
    return not _is_safe(row)


def _has_no_input(row: Mapping[str, object]) -> bool:
    """Whether an Alpaca instruction stands on its own."""
    return not str(row.get("input") or "").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one instruction set is published, and how the paper reads it."""

    name: str
    published: tuple[str, ...]
    license: str
    """As the paper's Table 12 states it, but for Alpaca, where the upstream data says otherwise."""
    files: tuple[tuple[str, ...], ...]
    """Names the upstream files go by: all of one tuple are needed, the first complete one wins."""
    instruction: str | None
    """Column of the instruction; None for files that are lists of texts."""
    category: str | None = None
    keeps: Callable[[Mapping[str, object]], bool] = _every_row
    filtered_by: tuple[str, ...] = ()
    """Columns that `keeps` looks at; a file without them is refused."""
    n_instructions: int
    """How many there are after the filter."""
    hub: str | None = None
    """OWNER/DATASET/FILE on the Hugging Face hub, where the authors publish there too."""


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="advbench",
            published=(
                f"{_GITHUB}/llm-attacks/llm-attacks/main/data/advbench/harmful_behaviors.csv",
            ),
            license="MIT",
            files=(("harmful_behaviors.csv",), ("advbench.csv",)),
            instruction="goal",
            n_instructions=520,
        ),
        Source(
            name="malicious_instruct",
            published=(f"{_GITHUB}/Princeton-SysML/Jailbreak_LLM/main/data/MaliciousInstruct.txt",),
            license="MIT",
            files=(("MaliciousInstruct.txt",), ("malicious_instruct.txt",)),
            instruction=None,
            n_instructions=100,
        ),
        Source(
            name="tdc2023",
            published=tuple(
                f"{_GITHUB}/centerforaisafety/tdc2023-starter-kit/main/red_teaming/data/{part}/"
                f"behaviors.json"
                for part in ("dev", "test")
            ),
            license="MIT",
            files=(
                ("dev/behaviors.json", "test/behaviors.json"),
                ("tdc2023_dev_behaviors.json", "tdc2023_test_behaviors.json"),
            ),
            instruction=None,
            n_instructions=100,
        ),
        *(
            Source(
                name=f"harmbench_{part}",
                published=(
                    f"{_GITHUB}/centerforaisafety/HarmBench/main/data/behavior_datasets/"
                    f"harmbench_behaviors_text_{part}.csv",
                ),
                license="MIT",
                files=((f"harmbench_behaviors_text_{part}.csv",), (f"harmbench_{part}.csv",)),
                instruction="Behavior",
                category="SemanticCategory",
                keeps=_is_standard,
                filtered_by=("FunctionalCategory", "Tags"),
                n_instructions=n_instructions,
            )
            for part, n_instructions in (("val", 41), ("test", 159))
        ),
        Source(
            name="jailbreakbench",
            published=(
                f"{_GITHUB}/JailbreakBench/jailbreakbench/main/src/jailbreakbench/data/behaviors.csv",
            ),
            license="MIT",
            files=(("behaviors.csv",), ("harmful-behaviors.csv",), ("jailbreakbench.csv",)),
            instruction="Goal",
            category="Category",
            n_instructions=100,
            hub="JailbreakBench/JBB-Behaviors/data/harmful-behaviors.csv",
        ),
        Source(
            name="strongreject",
            published=(
                f"{_GITHUB}/alexandrasouly/strongreject/main/strongreject_dataset/"
                f"strongreject_dataset.csv",
            ),
            license="MIT",
            files=(("strongreject_dataset.csv",), ("strongreject.csv",)),
            instruction="forbidden_prompt",
            category="category",
            n_instructions=313,
        ),
        Source(
            name="alpaca",
            published=("https://huggingface.co/datasets/tatsu-lab/alpaca",),
            license="CC BY-NC 4.0",
            files=(
                ("data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",),
                ("train-00000-of-00001-a09b74b3ef9c3b56.parquet",),
                ("alpaca_data.json",),
            ),
            instruction="instruction",
            keeps=_has_no_input,
            filtered_by=("input",),
            n_instructions=31_323,
            hub="tatsu-lab/alpaca/data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
        ),
        *(
            Source(
                name=name,
                published=(f"{_GITHUB}/paul-rottger/xstest/main/xstest_prompts.csv",),
                license="CC BY 4.0",
                files=(("xstest_prompts.csv",), ("xstest.csv",)),
                instruction="prompt",
                category="type",
                keeps=keeps,
                filtered_by=("type",),
                n_instructions=n_instructions,
                hub="Paul/XSTest/xstest_prompts.csv",
            )
            for name, keeps, n_instructions in (
                ("xstest", _is_safe, 250),
                ("xstest_unsafe", _is_contrast, 200),
            )
        ),
    )
}
"""The paper's sources by name (Table 12 of Arditi et al. (2024)), and XSTest for over-refusal
(Roettger et al. (2024), https://arxiv.org/abs/2308.01263): `xstest` is its 250 safe prompts."""
ALIASES = {"harmbench": "harmbench_test", "maliciousinstruct": "malicious_instruct"}


def is_source(name: str) -> bool:
    """Whether a name means one of `SOURCES`, or a file on the hub."""
    return name in SOURCES or name in ALIASES or name.startswith(HUB_PREFIX)


def read_file_or_source(
    source: str, folder: Path | None = None, *, columns: Sequence[str] = ()
) -> InstructionFile:
    """The instructions of a file, or of a data set by name where no file is called so.

    What is left out is logged.

    Raises:
        InstructionsError: as `read_instruction_file` and `read_source`.
    """
    if is_source(source) and not Path(source).exists():
        found = read_source(source, folder, columns=columns)
    else:
        found = read_instruction_file(Path(source), columns=columns)
    for warning in found.warnings:
        _log.warning("%s", warning)
    return found


def load_source(name: str, folder: Path | None = None) -> list[Instruction]:
    """The instructions of a source alone; see `read_source`.

    Raises:
        InstructionsError: as `read_source`.
    """
    return list(read_source(name, folder).instructions)


def read_source(
    name: str, folder: Path | None = None, *, columns: Sequence[str] = ()
) -> InstructionFile:
    """Read one of the paper's instruction sets, or one file of a dataset on the hub.

    In `folder` the file NAME.json, as the paper's repository has it, goes first; then come the
    files as their authors publish them, read as the paper reads them: HarmBench without copyright
    and context rows, Alpaca without rows that have an input. Order and repetitions are kept.

    Args:
        name: One of `SOURCES` or `ALIASES`, or `hf:OWNER/DATASET/PATH/IN/IT.json`, which goes to
            the Hugging Face hub.
        folder: Where the user has the files; nothing is downloaded then. Without it a source
            comes from the hub, where its authors publish it there.
        columns: Columns of the instruction in a file on the hub; those of a source are known.

    Raises:
        InstructionsError: no such source, no file of it in `folder` (the message says where it is
            published), or a malformed one; or the hub does not give the file.
    """
    if name.startswith(HUB_PREFIX):
        return read_instruction_file(_from_hub(name), columns=columns)
    source = SOURCES.get(ALIASES.get(name, name))
    if source is None:
        raise InstructionsError(
            f"no source is called {name!r}; expected one of {', '.join(SOURCES)}, or "
            f"{HUB_PREFIX}OWNER/DATASET/FILE"
        )
    rows = _from_hub_source(source) if folder is None else _from_folder(source, folder)
    if len(rows) != source.n_instructions:
        _log.warning(
            "%s has %d instructions, its authors publish %d; all are used",
            name,
            len(rows),
            source.n_instructions,
        )
    return InstructionFile(instructions=tuple(rows))


def _from_hub_source(source: Source) -> list[Instruction]:
    if source.hub is None:
        raise _not_here(source, "no folder is given to read it from")
    try:
        path = _from_hub(f"{HUB_PREFIX}{source.hub}")
    except InstructionsError as error:
        raise _not_here(source, f"no folder is given to read it from; {error}") from error
    return _read_upstream(source, path)


def _from_folder(source: Source, folder: Path) -> list[Instruction]:
    processed = folder / f"{source.name}.json"
    if processed.is_file():
        return read_instructions(processed)
    for files in source.files:
        paths = [folder / file for file in files]
        if all(path.is_file() for path in paths):
            return [row for path in paths for row in _read_upstream(source, path)]
    raise _not_here(source, f"{folder} does not have it")


def _not_here(source: Source, where: str) -> InstructionsError:
    return InstructionsError(
        f"{source.name} is not bundled and {where}; save {' and '.join(source.published)} (licence "
        f"{source.license}) in a folder of yours as {' and '.join(source.files[0])}"
    )


def _read_upstream(source: Source, path: Path) -> list[Instruction]:
    if source.instruction is None:
        return read_instructions(path)
    instructions = []
    for place, row in read_rows(path):
        where = f"{path}, {place}"
        if isinstance(row, str) or any(column not in row for column in source.filtered_by):
            raise InstructionsError(
                f"{where} lacks {' or '.join((source.instruction, *source.filtered_by))}; expected "
                f"the file that {source.published[0]} gives"
            )
        if source.keeps(row):
            text = column_text(row, source.instruction, place=where)
            category = column_category(row, source.category, place=where)
            instructions.append(Instruction(text, category))
    if not instructions:
        raise InstructionsError(f"{path} holds no instruction that the paper would keep")
    return instructions


def _from_hub(name: str) -> Path:
    owner, _, rest = name.removeprefix(HUB_PREFIX).partition("/")
    dataset, _, file = rest.partition("/")
    if not (owner and dataset and file):
        raise InstructionsError(
            f"{name!r} does not name a file on the hub; expected {HUB_PREFIX}OWNER/DATASET/FILE, "
            f"such as {HUB_PREFIX}someone/prompts/train.json"
        )
    try:
        path = hf_hub_download(f"{owner}/{dataset}", file, repo_type="dataset")
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InstructionsError(
            f"{file} of the dataset {owner}/{dataset} does not come from the hub ({reason}); check "
            f"the name, or give a file of your own"
        ) from error
    return Path(path)
