"""Rows that leave and join write what each writes alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_edits
import torch
from architectures_that_hold import NOT_LOADED, SUPPORTED
from tiny_edits import save_miniature
from tiny_models import byte_tokenizer, tiny_chat
from torch import Tensor

from refusalscope.engine.shared_prefixes import n_shared_tokens
from refusalscope.errors import InputError
from refusalscope.generate import stream as streams
from refusalscope.generate.stream import Asked, Stream, stream_of
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models import packed_linears
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.forward import prefix_cache

TEXTS = ["open door " + "of the house " * (i % 5) + str(i) for i in range(14)]  # of five lengths
FEW = ("gpt2", "gemma3_text", "mistral", "bloom", "opt", "falcon", "qwen3_moe")
"""Learned positions, sliding windows, ALiBi, positions by mask, experts."""


def miniature(folder: Path, kind: str) -> ChatModel:
    """A small random model of an architecture; its windows are of 32 tokens."""
    model = save_miniature(folder / "model", kind)
    byte_tokenizer().save_pretrained(model)
    return load_chat_model(str(model))


def asked_of(chat: ChatModel, *, limit: int = 12) -> list[Asked]:
    """Prompts of five lengths under three interventions, each with a limit of its own."""
    generator = torch.Generator().manual_seed(0)
    vectors = [4 * torch.randn(chat.d_model, generator=generator) for _ in range(2)]
    edits = [
        None,
        Intervention(operator="ablate", vector=vectors[0]),
        Intervention(operator="add", vector=vectors[1], layer=1),
    ]
    return [
        Asked(prompt=prompt, edit=edits[i % 3], limit=1 + (5 * i) % limit)
        for i, prompt in enumerate(chat.encode(TEXTS))
    ]


def by_hand(chat: ChatModel, asked: Asked, stops: frozenset[int] = frozenset()) -> list[int]:
    """Greedy tokens, each from a whole forward pass without cache or padding."""
    ids = list(asked.prompt.ids)
    with torch.inference_mode(), intervene(chat.model, chat.anatomy, [asked.edit]):
        for _ in range(asked.limit):
            logits = chat.model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] in stops:
                break
    return ids[len(asked.prompt.ids) :]


def streamed(
    chat: ChatModel,
    asked: Sequence[Asked],
    *,
    batch_size: int,
    stops: frozenset[int] = frozenset(),
) -> list[list[int]]:
    stream = stream_of(
        chat.model,
        chat.anatomy,
        asked,
        pad_id=chat.pad_id,
        stops=stops,
        batch_size=batch_size,
    )
    assert stream is not None
    found = [pair for some in stream.run(asked) for pair in some]
    assert sorted(place for place, _ in found) == list(range(len(asked)))
    return [ids for _, ids in sorted(found)]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_each_row_writes_what_it_writes_alone(chat: ChatModel, batch_size: int) -> None:
    asked = asked_of(chat)
    expected = [by_hand(chat, one) for one in asked]
    assert len({tuple(ids[:1]) for ids in expected}) > 1
    assert streamed(chat, asked, batch_size=batch_size) == expected


@pytest.mark.parametrize(
    ("kind", "laid_out"), [*((kind, False) for kind in FEW), ("gemma3_text", True), ("opt", True)]
)
def test_other_architectures_do_too(
    kind: str, laid_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = miniature(tmp_path, kind)
    asked = asked_of(chat, limit=20)
    if laid_out:
        monkeypatch.setattr(packed_linears, "LEAST_WEIGHTS", 1)
        assert packed_linears.packed_linears(chat.model).forwards
    assert max(len(one.prompt.ids) + one.limit for one in asked) > 40
    assert streamed(chat, asked, batch_size=5) == [by_hand(chat, one) for one in asked]


def test_layers_that_read_the_keys_of_others_do_too(tmp_path: Path) -> None:
    """Gemma 4: the last layers have no keys and values of their own."""
    plain = tiny_edits.miniature("gemma4_text")
    options = plain.config.to_dict()
    del options["per_layer_config"]  # the wider heads of the one layer that sees all tokens
    options |= {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "global_head_dim": options["head_dim"],
        "num_global_key_value_heads": None,
    }
    torch.manual_seed(0)
    type(plain)(type(plain.config).from_dict(options)).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    chat = load_chat_model(str(tmp_path / "model"))
    layers = prefix_cache(chat.model, torch.tensor([[1, 2, 3]])).layers
    assert [type(layer).__name__ for layer in layers[-2:]] == ["DummyLayer"] * 2
    asked = asked_of(chat, limit=20)
    assert streamed(chat, asked, batch_size=5) == [by_hand(chat, one) for one in asked]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("roberta-prelayernorm", id="positions that begin behind the padding's id"),
        pytest.param("mamba", id="states that are no keys and values"),
    ],
)
def test_a_model_whose_rows_cannot_join_is_left_to_fixed_batches(kind: str, tmp_path: Path) -> None:
    chat = miniature(tmp_path, kind)
    asked = asked_of(chat)
    assert (
        stream_of(
            chat.model, chat.anatomy, asked, pad_id=chat.pad_id, stops=frozenset(), batch_size=4
        )
        is None
    )


def test_one_prompt_by_itself_is_no_proof_that_rows_can_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    asked = asked_of(chat)
    proven: list[int] = []
    whole = Stream.noise

    def noise(stream: Stream, some: Sequence[Asked]) -> float:
        if not stream.shared:
            proven.append(len(some))
        return whole(stream, some)

    monkeypatch.setattr(Stream, "noise", noise)
    for some in (asked[:1], asked[:1], asked, asked[:1], asked):
        streamed(chat, some, batch_size=4)
    assert proven == [1, 1, 3]


def test_what_all_prompts_begin_with_is_run_once_under_each_intervention(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(chat)
    n_shared = n_shared_tokens([one.prompt for one in asked])
    assert n_shared > 8
    stream = stream_of(
        chat.model, chat.anatomy, asked, pad_id=chat.pad_id, stops=frozenset(), batch_size=4
    )
    assert stream is not None
    assert len(stream.shared) == n_shared
    begun: list[int] = []
    ran: list[int] = []

    def prefix(model: Any, ids: Tensor) -> Any:
        begun.append(len(ids))
        return prefix_cache(model, ids)

    def watched(_module: Any, args: Any, kwargs: Any) -> None:
        ran.append(int((args[0] if args else kwargs["input_ids"]).shape[1]))

    monkeypatch.setattr("refusalscope.engine.beginnings.prefix_cache", prefix)
    handle = chat.model.register_forward_pre_hook(watched, with_kwargs=True)
    monkeypatch.setattr(Stream, "_close", lambda *_: [])  # no row is run alone
    found = [pair for some in stream.run(asked) for pair in some]
    handle.remove()
    assert [ids for _, ids in sorted(found)] == [by_hand(chat, one) for one in asked]
    assert sum(begun) == 3
    assert max(n for n in ran if n != n_shared) <= max(len(o.prompt.ids) for o in asked) - n_shared


def test_in_half_precision_prompts_are_run_whole(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    chat.model.half()
    asked = [replace(one, edit=None) for one in asked_of(chat)]
    stream = stream_of(
        chat.model, chat.anatomy, asked, pad_id=chat.pad_id, stops=frozenset(), batch_size=4
    )
    assert stream is not None
    assert stream.shared == []


def test_where_it_does_not_fit_a_window_prompts_are_run_whole(tmp_path: Path) -> None:
    chat = miniature(tmp_path, "mistral")
    window = chat.model.config.sliding_window
    texts = ["open door " + "of the house " * n for n in (0, 1, 5)]
    asked = [Asked(prompt=prompt, edit=None, limit=9) for prompt in chat.encode(texts)]
    assert len(asked[1].prompt.ids) < window < len(asked[2].prompt.ids)
    assert streamed(chat, asked, batch_size=3) == [by_hand(chat, one) for one in asked]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in SUPPORTED if name not in NOT_LOADED])
def test_every_architecture_does_or_is_left_to_fixed_batches(kind: str, tmp_path: Path) -> None:
    chat = miniature(tmp_path, kind)
    asked = asked_of(chat)
    stream = stream_of(
        chat.model, chat.anatomy, asked, pad_id=chat.pad_id, stops=frozenset(), batch_size=5
    )
    if stream is not None:
        found = [ids for _, ids in sorted(pair for some in stream.run(asked) for pair in some)]
        assert found == [by_hand(chat, one) for one in asked]


def test_a_row_ends_at_its_stop(chat: ChatModel) -> None:
    asked = [replace(one, limit=12) for one in asked_of(chat)]
    free = [by_hand(chat, one) for one in asked]
    stops = frozenset({free[0][3], free[4][6]})
    expected = [by_hand(chat, one, stops) for one in asked]
    assert {len(ids) for ids in expected} != {12}
    assert streamed(chat, asked, batch_size=4, stops=stops) == expected


def test_a_row_at_the_end_of_the_context_leaves_at_once(tmp_path: Path) -> None:
    """It would be given a position that the model does not have while others are waited for."""
    chat = miniature(tmp_path, "gpt2")
    context = chat.model.config.max_position_embeddings
    asked = [
        Asked(prompt=prompt, edit=None, limit=context - len(prompt.ids) if i == 3 else 12)
        for i, prompt in enumerate(
            chat.encode(["a" * (context - 10 if i == 3 else 5 + i) for i in range(24)])
        )
    ]
    assert asked[3].limit < 12
    assert streamed(chat, asked, batch_size=24) == [by_hand(chat, one) for one in asked]


def test_rows_come_as_they_are_done_and_no_more_are_run_than_fit(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [replace(one, limit=2 if i % 2 else 30) for i, one in enumerate(asked_of(chat))]
    rows: list[int] = []
    forward = streams.next_logits

    def counted(model: Any, ids: torch.Tensor, *more: Any) -> Any:
        rows.append(len(ids))
        return forward(model, ids, *more)

    stream = stream_of(
        chat.model, chat.anatomy, asked, pad_id=chat.pad_id, stops=frozenset(), batch_size=4
    )
    assert stream is not None
    monkeypatch.setattr(streams, "next_logits", counted)
    found = [[place for place, _ in some] for some in stream.run(asked)]
    assert found[0] == [1, 3]
    assert max(rows) == 4
    # Fixed batches of four would have run 4 rows for 30 steps four times.
    assert sum(rows) < 0.7 * 4 * 4 * 30


def test_what_is_written_does_not_depend_on_what_is_beside_it(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that is off by less than a tie decides nothing: close rows are run alone."""
    asked = asked_of(chat)
    whole = streamed(chat, asked, batch_size=8)
    forward = streams.next_logits
    generator = torch.Generator().manual_seed(1)

    def shaken(model: Any, ids: torch.Tensor, mask: torch.Tensor, *more: Any) -> Any:
        logits, cache = forward(model, ids, mask, *more)
        return logits + 0.5 * torch.rand(logits.shape, generator=generator), cache

    monkeypatch.setattr(streams, "next_logits", shaken)

    def written(tie: float | None) -> list[list[int]]:
        stream = Stream(
            model=chat.model,
            anatomy=chat.anatomy,
            pad_id=chat.pad_id,
            stops=frozenset(),
            batch_size=8,
            tie=tie,
        )
        return [ids for _, ids in sorted(pair for some in stream.run(asked) for pair in some)]

    assert written(None) != whole
    assert written(0.5) == whole


def test_rows_that_do_not_fit_are_begun_again_in_fewer(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = asked_of(chat)
    whole = streamed(chat, asked, batch_size=8)
    forward = streams.next_logits
    most = {"rows": 3}

    def small(model: Any, ids: torch.Tensor, *more: Any) -> Any:
        if len(ids) > most["rows"]:
            raise torch.OutOfMemoryError("no room")
        return forward(model, ids, *more)

    monkeypatch.setattr(streams, "next_logits", small)
    assert streamed(chat, asked, batch_size=8) == whole
    assert "from now on 2 at a time" in caplog.text
    most["rows"] = 0
    with pytest.raises(InputError, match="does not fit into memory by itself"):
        streamed(chat, asked, batch_size=8)
