"""A run tokenizes each instruction once, however many stages ask for it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny
from tiny_runs import finish_run, instruction_files
from transformers import PreTrainedTokenizerFast

from refusalscope.models import prompts
from refusalscope.models.text_tokens import Frame
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run


def test_a_run_tokenizes_no_instruction_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: Counter[str] = Counter()
    read_parts = prompts.read_parts

    def counted(tokenizer: Any, parts: Any, **options: Any) -> Any:
        times["".join(str(part) for part in parts if not isinstance(part, Frame))] += 1
        return read_parts(tokenizer, parts, **options)

    monkeypatch.setattr(prompts, "read_parts", counted)
    instruction_files(tmp_path)
    finish_run(tmp_path, save_tiny(tmp_path / "tiny"), tmp_path / "out")
    assert len(times) == 2 * (6 + 3 + 3) + len(prompts._PROBES)  # these say where one begins
    assert set(times.values()) == {1}


def test_refusal_tokens_are_proposed_without_a_walk_over_the_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_decoded = 0
    decode = PreTrainedTokenizerFast.decode

    def counted(self: PreTrainedTokenizerFast, token_ids: Any, *args: Any, **options: Any) -> Any:
        nonlocal n_decoded
        n_decoded += 1
        return decode(self, token_ids, *args, **options)

    def every_harmful_one(run: Any) -> dict[str, tuple[bool, ...]]:
        return {
            name: tuple(name.startswith("harmful") for _ in each.instructions)
            for name, each in run.sets.items()
        }

    monkeypatch.setattr("refusalscope.pipeline.extract.refused_by_answers", every_harmful_one)
    monkeypatch.setattr(PreTrainedTokenizerFast, "decode", counted)
    harmful, harmless = instruction_files(tmp_path)
    options = RunOptions(
        model=str(save_tiny(tmp_path / "tiny")),
        harmful=str(harmful),
        harmless=str(harmless),
        n_train=8,
        n_val=3,
        n_test=3,
        answer_prefix="",
    )
    run(options, tmp_path / "out", until="label")
    n_decoded = 0
    run(options, tmp_path / "out", until="extract")
    assert 0 < n_decoded < 30, "the vocabulary has 261 tokens"
