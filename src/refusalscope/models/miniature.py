"""Small random models of any decoder architecture, to try things on."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from refusalscope.errors import ModelLoadError

D_MODEL = 64
_SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": D_MODEL,
    "n_embd": D_MODEL,
    "d_model": D_MODEL,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "n_layer": 4,
    "n_layers": 4,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "rotary_dim": 8,
    "n_shared_experts": 1,
    "v_head_dim": 16,
    "word_embed_proj_dim": D_MODEL,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "encoder_layers": 1,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "ffn_dim": 96,
    "sliding_window": 32,
    "is_decoder": True,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "chunk_size": 8,
    "state_size": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_OVERRIDES: dict[str, dict[str, Any]] = {}


def miniature_config(model_type: str) -> PretrainedConfig:
    """A small config of one architecture of transformers, its defaults otherwise."""
    config_class = CONFIG_MAPPING[model_type]
    return config_class(**_small_options(config_class()), **_OVERRIDES.get(model_type, {}))


def _small_options(default: PretrainedConfig) -> dict[str, Any]:
    known = default.to_dict()
    names = {key for key in _SMALL if key in known or key in (default.attribute_map or {})}
    options = {key: _SMALL[key] for key in names}
    for key, sub in known.items():
        if isinstance(sub, dict) and isinstance(getattr(default, key, None), PretrainedConfig):
            options[key] = _small_options(getattr(default, key))
    return options


def build_miniature(config: PretrainedConfig, *, seed: int = 0) -> nn.Module:
    """A model with random weights in float32, ready to run."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter += 0.3 * torch.randn_like(parameter)
    return model.requires_grad_(False)
