"""The five families of organisms: architecture class, tokenizer conventions, chat template.

Classes and conventions are those of the paper's families (Arditi et al. 2024, Tables 1 and 6), in
small. Qwen is of the Qwen2 class: the first Qwen needs remote code. The templates are the paper's,
without a default system prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from refusalscope.errors import InputError
from refusalscope.models.tokens import begin_token, end_token, pad_token
from refusalscope.organisms.tokenizer import TokenizerSpec

_LONGEST_PROMPT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """How large an organism is; what a family fixes (key-value heads, tying) is not here."""

    n_layers: int
    d_model: int
    n_heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganismFamily:
    """One family of organisms.

    Attributes:
        name: As in `organism train --family`.
        paper_name: The paper's family that it stands for.
        model_type: As transformers calls the architecture.
        own_settings: Settings of the config that the family fixes, for a size.
    """

    name: str
    paper_name: str
    tokenizer: TokenizerSpec
    model_type: str
    own_settings: Callable[[ModelSize], dict[str, int | bool]]


def new_model(
    family: OrganismFamily, size: ModelSize, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> PreTrainedModel:
    """A model of the family with random weights, in float32."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            family.model_type,
            vocab_size=len(tokenizer),
            hidden_size=size.d_model,
            intermediate_size=3 * size.d_model,
            num_hidden_layers=size.n_layers,
            num_attention_heads=size.n_heads,
            max_position_embeddings=_LONGEST_PROMPT,
            bos_token_id=begin_token(tokenizer),
            eos_token_id=end_token(tokenizer),
            pad_token_id=pad_token(tokenizer),
            **family.own_settings(size),
        )
    )


def family_named(name: str) -> OrganismFamily:
    """The family of a name.

    Raises:
        InputError: there is none.
    """
    if name not in FAMILIES:
        raise InputError(f"no family of organisms is called {name!r}; there are: {_NAMES}")
    return FAMILIES[name]


def _turns(begin: str, turn: str, generation: str) -> str:
    return (
        f"{begin}{{% for m in messages %}}{turn}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{generation}{{% endif %}}"
    )


_CHATML = _turns(
    "",
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}",
    "{{ '<|im_start|>assistant\n' }}",
)
_GEMMA = _turns(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}",
    "{{ '<start_of_turn>' + (m['role'] if m['role'] == 'user' else 'model') + '\n'"
    " + m['content'] + '<end_of_turn>\n' }}",
    "{{ '<start_of_turn>model\n' }}",
)
_LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
_LLAMA3 = _turns(
    "{{ bos_token }}",
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
)

FAMILIES = {
    family.name: family
    for family in (
        OrganismFamily(
            name="qwen2",
            paper_name="Qwen",
            tokenizer=TokenizerSpec(
                kind="byte-level",
                special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
                template_words=("user", "assistant", "system", "\n"),
                begin=None,
                end_of_turn="<|im_end|>",
                pad="<|endoftext|>",
                unknown=None,
                chat_template=_CHATML,
            ),
            model_type="qwen2",
            own_settings=lambda size: {
                "num_key_value_heads": size.n_heads // 2,
                "tie_word_embeddings": False,
            },
        ),
        OrganismFamily(
            name="yi",
            paper_name="Yi",
            tokenizer=TokenizerSpec(
                kind="sentencepiece",
                special=("<unk>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"),
                template_words=("user", "ass", "istant", "system", "\n"),
                begin=None,
                end_of_turn="<|im_end|>",
                pad="<unk>",
                unknown="<unk>",
                chat_template=_CHATML,
            ),
            model_type="llama",
            own_settings=lambda size: {
                "num_key_value_heads": size.n_heads // 4,
                "tie_word_embeddings": False,
            },
        ),
        OrganismFamily(
            name="gemma",
            paper_name="Gemma",
            tokenizer=TokenizerSpec(
                kind="sentencepiece",
                special=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
                template_words=("user", "model", "\n"),
                begin="<bos>",
                end_of_turn="<end_of_turn>",
                pad="<pad>",
                unknown="<unk>",
                chat_template=_GEMMA,
            ),
            model_type="gemma",
            own_settings=lambda size: {
                "num_key_value_heads": 1,
                "head_dim": size.d_model // size.n_heads,
                "tie_word_embeddings": True,
            },
        ),
        OrganismFamily(
            name="llama2",
            paper_name="Llama-2",
            tokenizer=TokenizerSpec(
                kind="sentencepiece",
                special=("<unk>", "<s>", "</s>"),
                template_words=("[INST]", "[/INST]"),
                begin="<s>",
                end_of_turn="</s>",
                pad="<unk>",
                unknown="<unk>",
                chat_template=_LLAMA2,
                begins_with_blank=True,
            ),
            model_type="llama",
            own_settings=lambda size: {
                "num_key_value_heads": size.n_heads,
                "tie_word_embeddings": False,
            },
        ),
        OrganismFamily(
            name="llama3",
            paper_name="Llama-3",
            tokenizer=TokenizerSpec(
                kind="byte-level",
                special=(
                    "<unk>",
                    "<|begin_of_text|>",
                    "<|end_of_text|>",
                    "<|start_header_id|>",
                    "<|end_header_id|>",
                    "<|eot_id|>",
                ),
                template_words=("user", "assistant", "\n\n"),
                begin="<|begin_of_text|>",
                end_of_turn="<|eot_id|>",
                pad="<|end_of_text|>",
                unknown="<unk>",
                chat_template=_LLAMA3,
            ),
            model_type="llama",
            own_settings=lambda size: {
                "num_key_value_heads": size.n_heads // 2,
                "tie_word_embeddings": False,
            },
        ),
    )
}
"""By name, in the order of the paper's Table 1."""
_NAMES = ", ".join(FAMILIES)
