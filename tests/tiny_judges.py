"""Miniatures of the judges' architectures, with a byte tokenizer that knows a few words."""

from pathlib import Path
from typing import Any

import torch
from tiny_models import byte_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Llama4Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen3Config,
)

WORDS = ("safe", "unsafe", "yes", "no")
VOCABULARY = 261 + len(WORDS)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 4,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def config_of(judge: str, **changes: Any) -> PretrainedConfig:
    """The architecture of a judge's published checkpoint, two layers small."""
    small = {**_SMALL, **changes}
    if judge == "llama_guard_4":
        vision = {
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_output_dim": 16,
            "projector_input_dim": 16,
            "projector_output_dim": 16,
        }
        # Llama Guard 4 is Llama 4 without routed experts.
        text = {**small, "intermediate_size_mlp": 48, "moe_layers": []}
        return Llama4Config(
            text_config=text,
            vision_config=vision,
            boi_token_index=262,
            eoi_token_index=263,
            image_token_index=264,
            tie_word_embeddings=False,
        )
    classes = {"qwen3guard": Qwen3Config, "wildguard": MistralConfig}
    return classes.get(judge, LlamaConfig)(**small)


def save_tiny_judge(
    folder: Path, judge: str, *, seed: int = 0, favourite: str | None = None, **changes: Any
) -> Path:
    """A folder with a miniature of a judge.

    Args:
        favourite: A word that it always thinks the most probable next token.
    """
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(list(WORDS))
    tokenizer.chat_template = CHAT_TEMPLATE
    config = config_of(judge, **changes)
    torch.manual_seed(seed)
    auto = AutoModelForImageTextToText if judge == "llama_guard_4" else AutoModelForCausalLM
    model = auto.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        if favourite is not None:
            _favour(model, tokenizer.get_vocab()[favourite])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _favour(model: Any, token: int) -> None:
    """The stream holds positive embeddings alone, and one row of the head reads it."""
    for name, parameter in model.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            parameter.zero_()
        elif name.endswith("norm.weight"):
            parameter.fill_(1.0)
    model.get_input_embeddings().weight.abs_()
    head = model.get_output_embeddings().weight
    head.zero_()
    head[token] = 1.0
