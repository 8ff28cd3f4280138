from collections.abc import Sequence

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.activations.moments import resid_pre_moments
from refusalscope.errors import NothingKeptError
from refusalscope.models import forward
from refusalscope.models.chat_model import ChatModel

TEXTS = ["a", "some more text", "why?", "count to seven, slowly", "x y z", "no", "and so on"]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "model")


def states_of(chat: ChatModel) -> torch.Tensor:
    """resid_pre of each prompt by itself: prompt, pos, layer, d_model."""
    rows = []
    for prompt in chat.encode(TEXTS):
        with torch.inference_mode():
            output = chat.model(input_ids=torch.tensor([prompt.ids]), output_hidden_states=True)
        own = [output.hidden_states[layer][0] for layer in range(chat.n_layers)]
        rows.append(torch.stack([one[list(chat.positions)] for one in own], dim=1).double())
    return torch.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_means_and_variances_are_those_of_the_prompts_alone(
    chat: ChatModel, batch_size: int
) -> None:
    states = states_of(chat)
    found = resid_pre_moments(chat, chat.encode(TEXTS), batch_size=batch_size)
    assert found.n == len(TEXTS)
    torch.testing.assert_close(found.means, states.mean(0), atol=1e-6, rtol=1e-5)
    own = states.var(0, correction=0)
    assert bool((own[:, 1:] > 1e-3).any())
    torch.testing.assert_close(found.variances, own, atol=1e-6, rtol=1e-4)


def test_a_loud_channel_keeps_its_variance_to_the_last_digits(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Its square of 1e6 has no room in float64 for the digits of a variance of 1e-9."""
    chat = tiny_chat(tmp_path_factory.mktemp("loud") / "model")
    with torch.no_grad():
        chat.model.get_input_embeddings().get_parameter("weight")[:, 5] += 2.0**10
    own = states_of(chat)
    found = resid_pre_moments(chat, chat.encode(TEXTS), batch_size=1)
    exact = own.var(0, correction=0)
    naive = (own**2).mean(0) - own.mean(0) ** 2
    assert bool((found.means[..., 5] > 1e3).all())
    assert bool((exact[:, 1, 5] > 0).all())
    torch.testing.assert_close(found.variances, exact, atol=0, rtol=1e-9)
    assert not torch.allclose(naive[:, 1, 5], exact[:, 1, 5], atol=0, rtol=1e-3)
    # Before layer 0 all prompts share the tokens of the template: no spread, exactly.
    assert not found.variances[:, 0].any()


def test_only_kept_prompts_count_and_a_batch_may_keep_none(chat: ChatModel) -> None:
    prompts = chat.encode(TEXTS)

    def keep_some(_logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        return torch.tensor([row in (0, 3, 4) for row in rows])

    for batch_size in (1, 2, 7):
        found = resid_pre_moments(chat, prompts, keep=keep_some, batch_size=batch_size)
        alone = resid_pre_moments(chat, [prompts[i] for i in (0, 3, 4)])
        assert [i for i, is_kept in enumerate(found.kept) if is_kept] == [0, 3, 4]
        torch.testing.assert_close(found.means, alone.means, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.variances, alone.variances, atol=1e-6, rtol=1e-4)


def test_of_one_prompt_there_is_no_variance(chat: ChatModel) -> None:
    found = resid_pre_moments(chat, chat.encode(TEXTS[:1]))
    assert not found.variances.any()


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = chat.encode(TEXTS)
    whole = resid_pre_moments(chat, prompts, batch_size=2)
    run_model = forward.last_token_logits

    def only_small(model: torch.nn.Module, batch: object, **options: object) -> torch.Tensor:
        if len(batch.last) > 2:  # pyright: ignore[reportAttributeAccessIssue] # a Batch
            raise RuntimeError("out of memory")
        return run_model(model, batch, **options)  # pyright: ignore[reportArgumentType] # as it came

    monkeypatch.setattr("refusalscope.engine.rows.last_token_logits", only_small)
    halved = resid_pre_moments(chat, prompts, batch_size=100)
    torch.testing.assert_close(halved.means, whole.means, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(halved.variances, whole.variances, atol=1e-6, rtol=1e-4)


def test_a_filter_that_keeps_nothing_is_an_error(chat: ChatModel) -> None:
    with pytest.raises(NothingKeptError, match="none of 7 prompts was kept"):
        resid_pre_moments(
            chat, chat.encode(TEXTS), keep=lambda logits, _: torch.zeros(len(logits)).bool()
        )
