from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_chat
from transformers import GPT2Config, LlamaConfig, MambaConfig, Qwen2Config

from refusalscope.errors import InstructionsError
from refusalscope.generate.greedy import generate_greedy
from refusalscope.models.context_window import context_length


def yarn(**more: object) -> dict[str, Any]:
    return {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, **more}


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (LlamaConfig(max_position_embeddings=4096), 4096),
        (GPT2Config(n_positions=256), 256),
        (MambaConfig(), None),
        (Qwen2Config(max_position_embeddings=1000, rope_parameters=yarn()), 4000),
        (
            Qwen2Config(
                max_position_embeddings=4000,
                rope_parameters=yarn(original_max_position_embeddings=1000),
            ),
            4000,
        ),
    ],
)
def test_a_model_says_for_how_many_tokens_it_was_made(config: Any, length: int | None) -> None:
    assert context_length(config) == length


def test_a_prompt_that_leaves_no_room_is_told_with_its_length(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny", max_position_embeddings=32)
    fits, too_long = "a" * 20, "b" * 40
    with pytest.raises(InstructionsError, match=r"1 of 2 prompts .* context of 32 .*has 44: 'bbb"):
        chat.encode([fits, too_long])
    (prompt,) = chat.encode([fits])
    (answer,) = generate_greedy(chat, [prompt], max_new_tokens=100, stop_at_end_of_turn=False)
    assert len(answer.ids) == 32 - len(prompt.ids)
    with pytest.raises(InstructionsError, match="a prompt of 32 tokens leaves no room"):
        generate_greedy(chat, [prompt.with_suffix((9,) * (32 - len(prompt.ids)))])
