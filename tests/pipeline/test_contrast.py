"""A run says what tells its instructions apart without a model."""

import logging

import pytest

from refusalscope.data.instruction import Instruction
from refusalscope.metrics.auroc import auroc, auroc_interval
from refusalscope.pipeline.contrast import contrast_of
from refusalscope.pipeline.instructions import InstructionSet, InstructionSets


def sets_of(harmful: str, harmless: str, *, n_test: int = 6) -> InstructionSets:
    sizes = {"_train": 10, "_val": 4, "": n_test}
    texts = {
        kind + part: [f"{words} {part} {i}" for i in range(n)]
        for kind, words in (("harmful", harmful), ("harmless", harmless))
        for part, n in sizes.items()
    }
    return {
        name: InstructionSet(
            name=name,
            source="given",
            n_read=len(own),
            instructions=tuple(Instruction(text=text) for text in own),
        )
        for name, own in texts.items()
    }


def test_words_and_length_are_told_apart() -> None:
    found = contrast_of(sets_of("break a lock", "paint a wall"))
    assert found is not None
    assert (found.n_harmful, found.n_harmless) == (10, 10)
    assert found.words.area == 1
    assert found.words.low < 1
    assert found.length.area == 0.5
    assert found.length.low < 0.5 < found.length.high


def test_length_is_that_of_validation_and_test() -> None:
    found = contrast_of(sets_of("paint a wall", "paint a wall of it"))
    assert found is not None
    # Those of validation have a word more ("_val"), which is less than the two of the other kind.
    lengths = [[5.0] * 4 + [4.0] * 6, [7.0] * 4 + [6.0] * 6]
    assert found.length.area == auroc(*lengths) == 0
    assert (found.length.low, found.length.high) == auroc_interval(*lengths)


def test_too_little_is_said_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    bare = {
        name: InstructionSet(
            name=name, source="given", n_read=1, instructions=(Instruction(text="?"),)
        )
        for name in sets_of("a", "b")
    }
    with caplog.at_level(logging.WARNING):
        assert contrast_of(bare) is None
    assert "was not measured: 1 harmful and 1 harmless texts" in caplog.text
