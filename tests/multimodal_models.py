"""Random models that also see, small, as their class for images and text saves them."""

from pathlib import Path
from typing import Any

import torch
from tiny_models import byte_tokenizer
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

_TEXT = {
    "vocab_size": 261,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 4,
    "pad_token_id": 0,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 32,
}
_QWEN_TOKENS = {
    "image_token_id": 10,
    "video_token_id": 11,
    "vision_start_token_id": 12,
    "vision_end_token_id": 13,
}


def _rope(sections: list[int], **more: object) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": sections, "rope_theta": 10000.0, **more}
    return {"rope_parameters": rope}


_OPTIONS: dict[str, dict[str, Any]] = {
    "llava": {
        "text_config": {"model_type": "llama", **_TEXT},
        "vision_config": {"model_type": "clip_vision_model", "projection_dim": 32, **_VISION},
        "image_token_index": 10,
    },
    "mistral3": {
        "text_config": {"model_type": "mistral", **_TEXT},
        "vision_config": {"model_type": "pixtral", "head_dim": 16, **_VISION},
        "image_token_id": 10,
    },
    "qwen2_5_vl": {
        "text_config": {**_TEXT, **_rope([1, 1, 2])},
        "vision_config": {**_QWEN_VISION, "fullatt_block_indexes": [0]},
        **_QWEN_TOKENS,
    },
    "qwen3_5": {
        "text_config": {
            **_TEXT,
            "num_hidden_layers": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            **_rope([1, 1, 0], partial_rotary_factor=0.5),
        },
        "vision_config": {
            **_QWEN_VISION,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [],
        },
        **_QWEN_TOKENS,
    },
    "llama4": {
        "text_config": {
            **_TEXT,
            "num_hidden_layers": 4,
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
            "moe_layers": [1, 3],
            "no_rope_layers": [1, 1, 1, 0],
            "attention_chunk_size": 64,
        },
        "vision_config": {
            **_VISION,
            "intermediate_size": 128,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        "image_token_index": 10,
        "boi_token_index": 11,
        "eoi_token_index": 12,
    },
    "gemma3": {
        "text_config": {
            **_TEXT,
            "query_pre_attn_scalar": 8,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "vision_config": _VISION,
        "mm_tokens_per_image": 4,
        "image_token_index": 10,
        "boi_token_index": 11,
        "eoi_token_index": 12,
    },
    "qwen2_vl": {
        "text_config": {**_TEXT, **_rope([1, 1, 2])},
        "vision_config": {
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
        },
        **_QWEN_TOKENS,
    },
    "qwen3_vl": {
        "text_config": {**_TEXT, **_rope([1, 1, 2])},
        "vision_config": {
            **_QWEN_VISION,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [],
        },
        **_QWEN_TOKENS,
    },
    "idefics3": {
        "text_config": {"model_type": "llama", **_TEXT},
        "vision_config": _VISION,
        "image_token_id": 10,
        "scale_factor": 2,
    },
    "internvl": {
        "text_config": {"model_type": "qwen2", **_TEXT},
        "vision_config": {**_VISION, "image_size": [28, 28], "patch_size": [14, 14]},
        "image_token_id": 10,
    },
    "paligemma": {
        "text_config": {"model_type": "gemma", **_TEXT},
        "vision_config": {**_VISION, "projection_dim": 32},
        "image_token_id": 10,
        "projection_dim": 32,
    },
    "smolvlm": {
        "text_config": {"model_type": "llama", **_TEXT},
        "vision_config": _VISION,
        "image_token_id": 10,
        "scale_factor": 2,
    },
}
KINDS = tuple(_OPTIONS)
NOT_THE_HOOKS = ("gemma3",)
"""Norms lie between what is edited and the stream, so that the edit is not the same map."""


def save_multimodal(folder: Path, kind: str) -> Path:
    """A folder as the class that also sees saves it, with a byte tokenizer."""
    torch.manual_seed(0)
    model: Any = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[kind](**_OPTIONS[kind]))
    model.float().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
