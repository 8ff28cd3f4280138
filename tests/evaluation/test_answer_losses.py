import math
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.evaluation.answer_losses import answer_losses
from refusalscope.models.scored_text import scored_prompt


def test_the_loss_of_each_answer_is_that_of_a_whole_pass_over_it_alone(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    prompts = chat.encode(["paint the door", "open the window of the house", "go"])
    answers = [[70, 80, 90, 91, 92, 93], [75, 76], [100, 101, 102, 103]]
    texts = [scored_prompt(p, a) for p, a in zip(prompts, answers, strict=True)]
    found = answer_losses(chat, texts, batch_size=2)
    for text, answer, loss in zip(texts, answers, found, strict=True):
        ids = torch.tensor([text.ids])
        with torch.inference_mode():
            logs = chat.model(ids).logits[0].double().log_softmax(-1)
        at = range(len(text.ids) - len(answer) - 1, len(text.ids) - 1)
        own = [-logs[i, text.ids[i + 1]].item() for i in at]
        assert loss == pytest.approx(sum(own) / len(own), abs=1e-5)


def test_batches_of_many_tokens_are_divided_and_give_the_same(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    (prompt,) = chat.encode(["go"])
    texts = [scored_prompt(prompt, [70 + i % 50 for i in range(n)]) for n in (300, 301, 302, 303)]
    together = answer_losses(chat, texts, batch_size=64)
    alone = [answer_losses(chat, [text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-5)
    assert all(math.isfinite(loss) for loss in together)
