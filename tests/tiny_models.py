"""Random two-layer chat models with a byte tokenizer: real in every way but size and sense."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from refusalscope.models.chat_model import ChatModel, load_chat_model

SPECIAL = ("<pad>", "<bos>", "<user>", "<model>", "<end>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] if m['role'] == 'user' else 'model' }}>"
    "{{ m['content'] }}<end>{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """256 byte tokens and five control tokens, with a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<end>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_config(kind: str = "llama", **changes: Any) -> PretrainedConfig:
    """A configuration of two layers, 32 wide."""
    common = {
        "vocab_size": 261,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 4,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        **changes,
    }
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](**common)


def tiny_weights(kind: str = "llama", *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Random weights, the one-dimensional ones too, so that no bias or gain is trivial."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(kind, **changes)).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.dim() == 1 else 0.15
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def save_tiny(folder: Path, kind: str = "llama", *, seed: int = 0, **changes: Any) -> Path:
    """A folder that `load_chat_model` takes."""
    tiny_weights(kind, seed=seed, **changes).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def tiny_chat(folder: Path, kind: str = "llama", *, seed: int = 0, **changes: Any) -> ChatModel:
    """A loaded chat model."""
    return load_chat_model(str(save_tiny(folder, kind, seed=seed, **changes)))
