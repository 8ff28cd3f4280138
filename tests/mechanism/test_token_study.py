"""First tokens, the metric of every prompt, and the error of proposed tokens."""

import pytest
import torch
from mechanism_organism import Organism

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.mechanism.token_projections import project_text, token_projections
from refusalscope.mechanism.token_study import token_study
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


def test_probabilities_are_means_and_the_ten_likeliest_come_first(
    chat: ChatModel, prompts: list[Prompt]
):
    found = token_study(
        chat,
        harmful=prompts,
        harmless=prompts[:2],
        refusal_tokens=(40,),
        tested=prompts,
        refused=[True] * 5,
        batch_size=2,
    )
    every = torch.zeros(261, dtype=torch.float64)
    for prompt in prompts:
        logits = chat.model(torch.tensor([prompt.ids])).logits[0, -1]
        every += logits.double().softmax(-1) / 5
    best = every.topk(10)
    assert [t.id for t in found.harmful] == best.indices.tolist()
    assert [t.probability for t in found.harmful] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert found.harmful_metric == pytest.approx(refusal_metrics(chat, prompts, (40,)).tolist())
    assert (found.n_harmful, found.n_harmless) == (5, 2)


@pytest.mark.parametrize("refused", [True, False])
def test_the_error_is_the_share_of_completions_that_the_metric_tells_wrong(
    chat: ChatModel, prompts: list[Prompt], refused: bool
):
    says = (refusal_metrics(chat, prompts, (40,)) > 0).tolist()
    found = token_study(
        chat,
        harmful=prompts,
        harmless=prompts,
        refusal_tokens=(40,),
        tested=prompts,
        refused=[refused] * 5,
    )
    assert found.proposed == ()
    assert found.error is None
    assert found.error_in_use.rate == sum(s != refused for s in says) / 5
    assert found.error_in_use.n == 5


def test_on_the_organism_a_token_is_proposed(organism: Organism):
    run = organism.run
    found = token_study(
        run.chat,
        harmful=run.prompts("harmful_train"),
        harmless=run.prompts("harmless_train"),
        refusal_tokens=run.refusal_tokens,
        tested=run.prompts("harmful"),
        refused=[True] * len(run.prompts("harmful")),
        batch_size=64,
    )
    assert tuple(t.id for t in found.proposed) == run.refusal_tokens
    assert found.error is not None
    assert found.error.rate < 0.05


def test_every_token_is_projected_at_every_layer(chat: ChatModel, prompts: list[Prompt], direction):
    found = token_projections(chat, prompts[0], direction)
    with torch.inference_mode():
        output = chat.model(torch.tensor([prompts[0].ids]), output_hidden_states=True)
    states = torch.stack(output.hidden_states[:-1], dim=1)[0].permute(1, 0, 2)
    unit = direction / direction.norm()
    torch.testing.assert_close(found.float(), states @ unit, atol=1e-5, rtol=1e-4)
    record = project_text(chat, prompts[0], direction, label="one", is_harmful=True)
    assert "".join(record.tokens) == chat.tokenizer.decode(list(prompts[0].ids))
    assert record.projection[-1][1] == pytest.approx(found[-1, 1].item(), abs=1e-4)
