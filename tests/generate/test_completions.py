import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from completed import completed, jobs_of
from tiny_models import tiny_chat

from refusalscope.generate import answers, completions
from refusalscope.generate.completions import GenerationOptions, complete, plan
from refusalscope.generate.greedy import generate_greedy
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel

TEXTS = ["paint the door", "paint", "what now?", "x", "open it, then close it again"]


@pytest.fixture
def chat(tmp_path: Path) -> ChatModel:
    return tiny_chat(tmp_path / "tiny")


def given(chat: ChatModel, **options: Any) -> dict[str, Any]:
    vector = 3 * torch.randn(chat.d_model, generator=torch.Generator().manual_seed(1))
    return {
        "interventions": {
            "baseline": None,
            "ablation": Intervention(operator="ablate", vector=vector),
        },
        "options": GenerationOptions(max_new_tokens=9, batch_size=4, **options),
    }


def test_fixed_batches_and_rows_that_leave_write_the_same(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(chat, TEXTS, ("baseline", "ablation"))
    streamed = completed(chat, jobs, **given(chat))
    assert len({row.completion for row in streamed}) > 2
    assert plan(chat, jobs, **given(chat)).stream is not None
    monkeypatch.setattr(completions, "chat_stream", lambda *_args, **_options: None)
    planned = plan(chat, jobs, **given(chat))
    assert [len(group) for group in planned.groups] == [4, 4, 2]
    assert planned.are_whole
    assert completed(chat, jobs, **given(chat)) == streamed


def test_what_is_left_is_written_as_if_nothing_had_been_cut(chat: ChatModel) -> None:
    planned = plan(chat, jobs_of(chat, TEXTS, ("baseline", "ablation")), **given(chat))
    assert not planned.are_whole
    assert len(planned.groups) == 1
    whole = {row.slot: row for some in complete(chat, planned) for row in some}
    assert len(whole) == 2 * len(TEXTS)
    done = [slot for i, slot in enumerate(whole) if i % 3]
    rest = {row.slot: row for some in complete(chat, planned, done=done) for row in some}
    assert rest == {slot: whole[slot] for slot in whole if slot not in done}


def test_in_half_precision_a_group_that_was_cut_is_written_whole(tmp_path: Path) -> None:
    """There a batch may decide between close tokens, so each group has its own rows again."""
    chat = tiny_chat(tmp_path / "half")
    chat.model.half()
    jobs = jobs_of(chat, TEXTS, ("baseline", "ablation"))
    planned = plan(
        chat,
        jobs,
        interventions=given(chat)["interventions"],
        options=GenerationOptions(max_new_tokens=3, batch_size=2),
    )
    assert planned.are_whole
    assert [len(group) for group in planned.groups] == [8, 2]
    assert planned.without(job.slot for job in planned.groups[0]) == planned.groups[1:]


def test_a_batch_that_does_not_fit_is_freed_before_its_halves_are_completed(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        job for job in jobs_of(chat, TEXTS, ("baseline", "ablation")) if job.condition == "baseline"
    ][:4]
    left: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def generate(own, prompts, **options):
        alive.append(sum(one() is not None for one in left))
        states = torch.zeros(len(prompts), 8)
        left.append(weakref.ref(states))
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("no room")
        return generate_greedy(own, prompts, **options)

    monkeypatch.setattr(completions, "chat_stream", lambda *_args, **_options: None)
    whole = completed(chat, jobs, **given(chat))
    monkeypatch.setattr(answers, "generate_greedy", generate)
    gc.disable()
    try:
        assert completed(chat, jobs, **given(chat)) == whole
    finally:
        gc.enable()
    assert alive == [0] * 7


def test_rows_that_do_not_fit_are_freed_before_fewer_are_begun(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refusalscope.generate import stream

    whole = completed(chat, jobs_of(chat, TEXTS, ("baseline", "ablation")), **given(chat))
    forward = stream.next_logits
    left: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def small(model: Any, ids: torch.Tensor, *more: Any) -> Any:
        states = torch.zeros(len(ids), 8)
        if len(ids) > 1:
            left.append(weakref.ref(states))
            raise torch.OutOfMemoryError("no room")
        alive.append(sum(one() is not None for one in left))
        return forward(model, ids, *more)

    monkeypatch.setattr(stream, "next_logits", small)
    gc.disable()
    try:
        assert (
            completed(chat, jobs_of(chat, TEXTS, ("baseline", "ablation")), **given(chat)) == whole
        )
    finally:
        gc.enable()
    assert len(left) == 2
    assert set(alive) == {0}
