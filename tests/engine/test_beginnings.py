"""What all rows begin with runs once, and what goes on from it is what whole passes give."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_edits import save_miniature
from tiny_models import byte_tokenizer, tiny_chat
from torch import Tensor

from refusalscope.engine import beginnings
from refusalscope.engine.rows import Step, engine_of, under
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.forward import last_token_logits, prefix_cache
from refusalscope.models.hooks import observe_inputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import scored_prompt

WORDS = ["paint the door " + "of the house " * (i % 3) + str(i) for i in range(9)]
N = 15
"""Of the tokens that all prompts begin with."""


def miniature(folder: Path, kind: str) -> ChatModel:
    save_miniature(folder / "model", kind)
    byte_tokenizer().save_pretrained(folder / "model")
    return load_chat_model(str(folder / "model"))


@pytest.fixture
def chat(tmp_path: Path) -> ChatModel:
    return tiny_chat(tmp_path / "tiny")


def edits(chat: ChatModel) -> list[Intervention | None]:
    generator = torch.Generator().manual_seed(3)
    one, other = torch.randn(2, chat.d_model, generator=generator)
    ablate = Intervention(operator="ablate", vector=one)
    add = Intervention(operator="add", vector=other, layer=1)
    return [(None, ablate, add)[i % 3] for i in range(len(WORDS))]


class Counted:
    """Tokens that the model was given, and prefixes that were run."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.prefixes: list[int] = []


@pytest.fixture
def counted(chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> Counted:
    found = Counted()

    def prefix(model: Any, ids: Tensor) -> Any:
        found.prefixes.append(len(ids))
        return prefix_cache(model, ids)

    def seen(_module: Any, _args: Any, kwargs: Any) -> None:
        found.widths.append(int(kwargs["input_ids"].shape[1]))

    monkeypatch.setattr(beginnings, "prefix_cache", prefix)
    chat.model.register_forward_pre_hook(seen, with_kwargs=True)
    return found


def read(
    chat: ChatModel, prompts: list[Prompt], n_shared: int, **options: Any
) -> dict[str, Tensor]:
    """Logits, and what enters the last layer at the last two tokens."""
    logits = torch.empty(len(prompts), chat.model.config.vocab_size)
    streams = torch.empty(len(prompts), 2, chat.d_model)

    @contextmanager
    def taking(batch: Batch) -> Generator[list[Tensor]]:
        taken: list[Tensor] = []
        rows = torch.arange(len(batch.last))[:, None]
        columns = batch.last[:, None] + torch.tensor([-1, 0])
        with observe_inputs(
            [(chat.layers[-1], lambda hidden: taken.append(hidden[rows, columns]))]
        ):
            yield taken

    def kept(step: Step) -> None:
        logits[step.rows] = step.logits.float()
        streams[step.rows] = step.seen[0].float()

    engine = engine_of(chat, batch_size=4)
    for _ in engine.run(prompts, kept, around=taking, n_shared=n_shared, **options):
        pass
    return {"logits": logits, "streams": streams}


@pytest.mark.parametrize("how", ["plain", "edits", "edited"])
def test_logits_and_streams_are_those_of_whole_passes(
    chat: ChatModel, counted: Counted, how: str
) -> None:
    prompts = chat.encode(WORDS)
    options: dict[str, Any] = {
        "plain": {},
        "edits": {"edits": edits(chat)},
        "edited": {"edited": under(chat, edits(chat)[1])},
    }[how]
    whole = read(chat, prompts, 0, **options)
    assert counted.prefixes == []
    counted.widths.clear()
    shared = read(chat, prompts, N, **options)
    for name, values in whole.items():
        torch.testing.assert_close(shared[name], values, rtol=1e-5, atol=1e-5)
    assert sum(counted.prefixes) == (3 if how == "edits" else 1)
    longest = max(len(prompt.ids) for prompt in prompts)
    tried = 1  # the whole passes of the proof
    assert sorted(counted.widths)[-1 - tried] <= longest - N


def test_other_edits_give_other_logits(chat: ChatModel) -> None:
    """So the test above would see a prefix that ran without its edit."""
    prompts = chat.encode(WORDS)
    plain = read(chat, prompts, N)["logits"]
    for one in edits(chat)[1:3]:
        edited = read(chat, prompts, N, edited=under(chat, one))["logits"]
        assert float((plain - edited).abs().max()) > 1e-2


def test_scored_texts_keep_their_logits(chat: ChatModel, counted: Counted) -> None:
    texts = [scored_prompt(prompt, (40, 41, 42)) for prompt in chat.encode(WORDS)]
    engine = engine_of(chat)
    behind = engine.beginning_of(texts)
    assert behind is not None
    assert len(behind.ids) >= N
    for edit in edits(chat)[:3]:
        with torch.inference_mode():
            whole, targets = engine.scored(texts, edit)
            counted.widths.clear()
            shared, same = engine.scored(texts, edit, behind=behind)
        assert targets.tolist() == same.tolist()
        torch.testing.assert_close(shared, whole, rtol=1e-5, atol=1e-5)
        assert counted.widths[-1] == max(len(text.ids) for text in texts) - len(behind.ids)


def test_what_predicts_a_scored_token_is_not_shared(chat: ChatModel) -> None:
    prompt = chat.encode(WORDS)[0]
    texts = [scored_prompt(prompt, (40 + i, 41)) for i in range(3)]
    behind = engine_of(chat).beginning_of(texts)
    assert behind is not None
    assert len(behind.ids) == texts[0].first


@pytest.mark.parametrize("kind", ["mamba", "roberta-prelayernorm", "falcon_h1"])
def test_a_model_that_cannot_is_given_whole_prompts(kind: str, tmp_path: Path) -> None:
    chat = miniature(tmp_path, kind)
    prompts = chat.encode(WORDS)
    whole, shared = (read(chat, prompts, n)["logits"] for n in (0, N))
    torch.testing.assert_close(shared, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "mistral", "bloom", "gemma3_text", "qwen3_moe"])
def test_other_architectures_give_what_whole_passes_give(kind: str, tmp_path: Path) -> None:
    """Learned positions, windows shorter than a prompt, ALiBi, experts."""
    chat = miniature(tmp_path, kind)
    prompts = chat.encode(WORDS)
    whole, shared = (read(chat, prompts, n)["logits"] for n in (0, N))
    torch.testing.assert_close(shared, whole, rtol=1e-4, atol=1e-5)


def test_in_half_precision_every_prompt_runs_whole(chat: ChatModel, counted: Counted) -> None:
    chat.model.half()
    read(chat, chat.encode(WORDS), N)
    assert counted.prefixes == []


def test_one_prompt_and_short_beginnings_run_whole(chat: ChatModel, counted: Counted) -> None:
    read(chat, chat.encode(WORDS[:1]), N)
    read(chat, chat.encode(WORDS), 3)
    assert counted.prefixes == []


def test_a_proof_for_which_there_is_no_room_is_tried_again(
    chat: ChatModel, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = chat.encode(WORDS)

    def small(net: Any, batch: Batch, **options: Any) -> Tensor:
        if len(batch.last) > 1:
            raise torch.OutOfMemoryError("no room")
        return last_token_logits(net, batch, **options)

    with monkeypatch.context() as patched:
        patched.setattr("refusalscope.engine.rows.last_token_logits", small)
        read(chat, prompts, N)
    assert counted.prefixes == [1]  # the proof has asked how much room there is behind it
    assert chat.model not in beginnings._CAN_SHARE
    counted.prefixes.clear()
    read(chat, prompts, N)
    assert counted.prefixes == [1]


def test_interventions_beyond_what_is_kept_run_again(
    chat: ChatModel, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginnings, "_MOST", 2)
    prompts = chat.encode(WORDS[:3])
    own = edits(chat)[:3]
    engine = engine_of(chat, batch_size=1)
    found = torch.empty(3, chat.model.config.vocab_size)
    for rows, logits in engine.run(prompts, lambda s: s.logits, edits=own, n_shared=N):
        found[rows] = logits
    for rows, logits in engine.run(prompts, lambda s: s.logits, edits=own):
        torch.testing.assert_close(found[rows], logits, rtol=1e-5, atol=1e-5)
    assert sum(counted.prefixes) >= 3


def test_rows_that_could_not_be_joined_are_not_taken_for_others(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure nothing is known of what was kept."""
    none, ablate, add = edits(chat)[:3]
    ids = chat.encode(WORDS)[0].ids[:N]

    @contextmanager
    def edited(own: Any) -> Generator[None]:
        with intervene(chat.model, chat.anatomy, own):
            yield

    def keys(*own: Intervention | None) -> Tensor:
        cache: Any = behind.rows(own)
        return cache.layers[1].keys

    behind = beginnings.Beginnings(model=chat.model, ids=ids, edited=edited)
    expected = keys(none, ablate, add)
    behind = beginnings.Beginnings(model=chat.model, ids=ids, edited=edited)
    keys(none)

    def full(*_args: Any, **_options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(beginnings, "join_rows", full)
        keys(ablate)
    torch.testing.assert_close(keys(ablate, none, add), expected[[1, 0, 2]], rtol=1e-5, atol=1e-5)


def test_a_proof_is_of_rows_that_go_on_from_it(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = chat.encode(WORDS)
    lengths = sorted({len(prompt.ids) for prompt in prompts})
    few = beginnings.few_of(prompts, room=float(lengths[1]))
    assert {len(prompts[i].ids) for i in few} == set(lengths[:2])
    assert beginnings.few_of(prompts, room=lengths[0] - 1.0) == []

    def never(_rows: Any) -> Tensor:
        raise AssertionError("nothing can be tried")

    @contextmanager
    def plain(_edits: Any) -> Generator[None]:
        yield

    monkeypatch.setattr(beginnings, "room_before", lambda _cache: lengths[0] - 1.0)
    behind = beginnings.Beginnings(model=chat.model, ids=prompts[0].ids[:N], edited=plain)
    assert beginnings.proven(behind, prompts, whole=never, shared=never) is None
    assert beginnings.may_share(chat.model)
    assert chat.model not in beginnings._CAN_SHARE
