import gc
import weakref
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.data.instruction import Instruction
from refusalscope.generate import answers
from refusalscope.generate.completions import CompletionJob, GenerationOptions, complete
from refusalscope.generate.greedy import generate_greedy


def test_a_batch_that_does_not_fit_is_freed_before_its_halves_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    texts = ["paint the door", "paint", "what now?", "x"]
    jobs = [
        CompletionJob(
            index=i,
            dataset="harmless",
            condition="baseline",
            instruction=Instruction(text, None),
            prompt=chat.encode([text])[0],
        )
        for i, text in enumerate(texts)
    ]
    left: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def written() -> list[str | None]:
        batches = complete(
            chat,
            [jobs],
            interventions={"baseline": None},
            options=GenerationOptions(max_new_tokens=4),
        )
        return [one.completion for batch in batches for one in batch]

    def generate(own, prompts, **options):
        alive.append(sum(one() is not None for one in left))
        states = torch.zeros(len(prompts), 8)
        left.append(weakref.ref(states))
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("no room")
        return generate_greedy(own, prompts, **options)

    whole = written()
    monkeypatch.setattr(answers, "generate_greedy", generate)
    gc.disable()
    try:
        assert written() == whole
    finally:
        gc.enable()
    assert alive == [0] * 7
