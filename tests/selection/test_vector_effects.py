from pathlib import Path

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.selection.vector_effects import vector_effects

TOKENS = (100, 101)


def metric(chat: ChatModel, prompt: Prompt, edit: Intervention | None) -> float:
    with torch.inference_mode(), intervene(chat.model, chat.anatomy, [edit]):
        logits = chat.model(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[:, -1]
    return float(refusal_metric(logits, TOKENS)[0])


def test_each_vector_acts_by_itself_at_its_own_layer(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    harmful = chat.encode(["open door 1", "open a much longer door", "shut it"])
    harmless = chat.encode(["count to seven", "name a fruit"])
    generator = torch.Generator().manual_seed(1)
    vectors = [(3 * torch.randn(chat.d_model, generator=generator), layer) for layer in (1, 0, 1)]
    found = vector_effects(chat, vectors, harmful=harmful, harmless=harmless, refusal_tokens=TOKENS)

    def by_hand(prompts: list[Prompt], edit: Intervention | None) -> list[float]:
        ordered = sorted(prompts, key=lambda prompt: len(prompt.ids))
        return [metric(chat, prompt, edit) for prompt in ordered]

    assert found.harmful == pytest.approx(by_hand(harmful, None), abs=1e-5)
    assert found.harmless == pytest.approx(by_hand(harmless, None), abs=1e-5)
    for at, (vector, layer) in enumerate(vectors):
        ablate = Intervention(operator="ablate", vector=vector)
        add = Intervention(operator="add", vector=vector, layer=layer)
        assert found.bypass[at] == pytest.approx(by_hand(harmful, ablate), abs=1e-5)
        assert found.induce[at] == pytest.approx(by_hand(harmless, add), abs=1e-5)
    assert len({round(own[0], 3) for own in found.induce}) == 3
