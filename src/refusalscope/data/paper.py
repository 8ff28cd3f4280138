"""The paper's own splits and the sample it draws from them, to the instruction."""

import random
from dataclasses import dataclass
from pathlib import Path

from refusalscope.data.instruction import Instruction
from refusalscope.data.read import read_instructions
from refusalscope.errors import InstructionsError

PAPER_SEED = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSample:
    """What one run of the paper's code draws, in its order."""

    harmful_train: tuple[Instruction, ...]
    harmless_train: tuple[Instruction, ...]
    harmful_val: tuple[Instruction, ...]
    harmless_val: tuple[Instruction, ...]
    harmless_test: tuple[Instruction, ...]


def sample_paper_splits(
    folder: Path,
    seed: int = PAPER_SEED,
    *,
    n_train: int = 128,
    n_val: int = 32,
    n_test: int = 100,
) -> PaperSample:
    """Draw the instructions of a run as the paper's code draws them.

    One stream seeded once, `random.sample` of harmful train, harmless train, harmful validation,
    harmless validation and at last harmless test. With the defaults these are the instructions of
    the published runs. Another size shifts the stream and so changes the splits drawn after it:
    use `split_instructions` where that matters. Harmful test is read in file order, not drawn.

    Args:
        folder: Holds harmful_train.json, harmless_train.json, harmful_val.json, harmless_val.json
            and harmless_test.json, as dataset/splits of
            https://github.com/andyrdt/refusal_direction does.
        seed: Of the one stream.
        n_train: Of each of the two training sets.
        n_val: Of each of the two validation sets.
        n_test: Of harmless test.

    Raises:
        InstructionsError: a file is missing, malformed, or has fewer instructions than are drawn.
    """
    sizes = {
        "harmful_train": n_train,
        "harmless_train": n_train,
        "harmful_val": n_val,
        "harmless_val": n_val,
        "harmless_test": n_test,
    }
    stream = random.Random(seed)
    return PaperSample(
        **{name: _draw(stream, folder / f"{name}.json", size) for name, size in sizes.items()}
    )


def _draw(stream: random.Random, path: Path, size: int) -> tuple[Instruction, ...]:
    rows = read_instructions(path)
    if not 1 <= size <= len(rows):
        raise InstructionsError(
            f"{path} has {len(rows)} instructions and {size} are to be drawn; expected 1 to "
            f"{len(rows)}"
        )
    return tuple(stream.sample(rows, size))
