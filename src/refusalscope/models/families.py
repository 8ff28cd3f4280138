r"""The five model families and thirteen models of the paper, as data.

Templates, refusal tokens and post-instruction tokens are those of the paper's code (Tables 4 and 6
of Arditi et al. (2024), https://arxiv.org/abs/2406.11717, and
https://github.com/andyrdt/refusal_direction). A model outside these families needs no entry here:
its own chat template and its own refusal tokens are found without one.
"""

import re
from dataclasses import dataclass
from typing import Literal

from refusalscope.errors import ChatTemplateError

Alignment = Literal["fine-tuning", "preference optimization"]

_INSTRUCTION = "{instruction}"
_SYSTEM = "{system}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the paper's code knows of one family of chat models."""

    name: str
    alignment: Alignment
    """Of the family's chat models (Table 1)."""
    model_types: tuple[str, ...]
    """`model_type` in config.json."""
    name_pattern: str
    """What the name of a model of the family begins with, in lower case."""
    template: str
    """One turn around `{instruction}`. The tokenizer adds BOS where the family has one."""
    template_with_system: str | None
    """The same after `{system}`; None where the paper's code refuses system prompts."""
    refusal_tokens: tuple[int, ...]
    """Token ids (Table 4); for Gemma the 234285 of Figure 10's caption is a misprint."""
    refusal_strings: tuple[str, ...]
    """The same tokens as text, without the blank that Llama-2 has before its own."""
    n_post_instruction_tokens: int
    """Of the end of the template tokenized alone, as the code does it.

    For Llama-2 that is one more than a real prompt has: its position -6 is the last token of the
    instruction.
    """
    later_types: tuple[str, ...] = ()
    """`model_type` of later models that are asked through the same template; they are none of the
    paper's, and their tokens are their own."""
    default_system_prompt: str | None = None
    """What the paper calls the default; used only where a system prompt is asked for (Table 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperModel:
    """One of the thirteen models (Tables 1, 5 and 11)."""

    name: str
    """As the paper writes it."""
    hub_id: str
    family: str
    n_layers: int
    d_model: int
    n_heads: int
    d_vocab: int
    dtype: Literal["float16", "bfloat16"]
    """In which the paper's code loads it."""
    license: str


_CHATML = f"<|im_start|>user\n{_INSTRUCTION}<|im_end|>\n<|im_start|>assistant\n"
_CHATML_WITH_SYSTEM = f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n{_CHATML}"
_LLAMA3 = (
    f"<|start_header_id|>user<|end_header_id|>\n\n{_INSTRUCTION}<|eot_id|>"
    f"<|start_header_id|>assistant<|end_header_id|>\n\n"
)
_LLAMA2_SYSTEM_PROMPT = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, "
    "while being safe. Your answers should not include any harmful, unethical, racist, sexist, "
    "toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased "
    "and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of "
    "answering something not correct. If you don't know the answer to a question, please don't "
    "share false information."
)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="Qwen",
            alignment="fine-tuning",
            model_types=("qwen",),
            name_pattern=r"qwen-\d",
            template=_CHATML,
            template_with_system=_CHATML_WITH_SYSTEM,
            refusal_tokens=(40, 2121),
            refusal_strings=("I", "As"),
            n_post_instruction_tokens=5,
            later_types=("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
            default_system_prompt="You are a helpful assistant.",
        ),
        Family(
            name="Yi",
            alignment="fine-tuning",
            model_types=("llama",),
            name_pattern=r"yi-\d+b",
            template=_CHATML,
            template_with_system=_CHATML_WITH_SYSTEM,
            refusal_tokens=(59597,),
            refusal_strings=("I",),
            n_post_instruction_tokens=6,
        ),
        Family(
            name="Gemma",
            alignment="preference optimization",
            model_types=("gemma",),
            name_pattern=r"gemma-(1\.1-)?\d+b",
            template=(f"<start_of_turn>user\n{_INSTRUCTION}<end_of_turn>\n<start_of_turn>model\n"),
            template_with_system=None,
            refusal_tokens=(235285,),
            refusal_strings=("I",),
            n_post_instruction_tokens=5,
            later_types=("gemma2", "gemma3", "gemma3_text"),
        ),
        Family(
            name="Llama-2",
            alignment="preference optimization",
            model_types=("llama",),
            name_pattern=r"llama-2-",
            template=f"[INST] {_INSTRUCTION} [/INST] ",
            template_with_system=(
                f"[INST] <<SYS>>\n{_SYSTEM}\n<</SYS>>\n\n{_INSTRUCTION} [/INST] "
            ),
            refusal_tokens=(306,),
            refusal_strings=("I",),
            n_post_instruction_tokens=6,
            default_system_prompt=_LLAMA2_SYSTEM_PROMPT,
        ),
        Family(
            name="Llama-3",
            alignment="preference optimization",
            model_types=("llama",),
            name_pattern=r"(meta-)?llama-3-",
            template=_LLAMA3,
            template_with_system=(
                f"<|start_header_id|>system<|end_header_id|>\n\n{_SYSTEM}<|eot_id|>{_LLAMA3}"
            ),
            refusal_tokens=(40,),
            refusal_strings=("I",),
            n_post_instruction_tokens=5,
        ),
    )
}
"""By name, in the order of the paper's Table 1."""


def _models(
    family: str,
    license_name: str,
    dtype: Literal["float16", "bfloat16"],
    *rows: tuple[str, str, int, int, int, int],
) -> tuple[PaperModel, ...]:
    return tuple(
        PaperModel(
            name=f"{family} {size}",
            hub_id=hub_id,
            family=family,
            n_layers=n_layers,
            d_model=d_model,
            n_heads=n_heads,
            d_vocab=d_vocab,
            dtype=dtype,
            license=license_name,
        )
        for size, hub_id, n_layers, d_model, n_heads, d_vocab in rows
    )


PAPER_MODELS: tuple[PaperModel, ...] = (
    *_models(
        "Qwen",
        "Tongyi Qianwen Research License",
        "float16",
        ("1.8B", "Qwen/Qwen-1_8B-Chat", 24, 2048, 16, 151936),
        ("7B", "Qwen/Qwen-7B-Chat", 32, 4096, 32, 151936),
        ("14B", "Qwen/Qwen-14B-Chat", 40, 5120, 40, 152064),
        ("72B", "Qwen/Qwen-72B-Chat", 80, 8192, 64, 152064),
    ),
    *_models(
        "Yi",
        "Apache-2.0",
        "float16",
        ("6B", "01-ai/Yi-6B-Chat", 32, 4096, 32, 64000),
        ("34B", "01-ai/Yi-34B-Chat", 60, 7168, 56, 64000),
    ),
    *_models(
        "Gemma",
        "Gemma Terms of Use",
        "bfloat16",
        ("2B", "google/gemma-2b-it", 18, 2048, 8, 256000),
        ("7B", "google/gemma-7b-it", 28, 3072, 16, 256000),
    ),
    *_models(
        "Llama-2",
        "Llama 2 Community License",
        "float16",
        ("7B", "meta-llama/Llama-2-7b-chat-hf", 32, 4096, 32, 32000),
        ("13B", "meta-llama/Llama-2-13b-chat-hf", 40, 5120, 40, 32000),
        ("70B", "meta-llama/Llama-2-70b-chat-hf", 80, 8192, 64, 32000),
    ),
    *_models(
        "Llama-3",
        "Meta Llama 3 Community License",
        "bfloat16",
        ("8B", "meta-llama/Meta-Llama-3-8B-Instruct", 32, 4096, 32, 128256),
        ("70B", "meta-llama/Meta-Llama-3-70B-Instruct", 80, 8192, 64, 128256),
    ),
)
"""All thirteen, in the order of the paper's Table 1 and its figures."""


def family_of(config_model_type: str, name: str) -> Family | None:
    """The paper's family that a model belongs to; None for any other model.

    Both must agree: the `model_type` of its config and the beginning of its own name. So a Qwen2
    model is none of these, nor is a Gemma in a folder called `qwen-7b`, nor a Llama somewhere below
    a folder of that name; one copied to a folder of another name is not recognised.

    Args:
        config_model_type: From config.json.
        name: Hub id, or path of a local folder (also one in the hub's cache).
    """
    own_name = _own_name(name)
    for family in FAMILIES.values():
        if config_model_type in family.model_types and re.match(family.name_pattern, own_name):
            return family
    return None


def template_family(config_model_type: str, name: str) -> Family | None:
    """The family whose template a model can be asked through; None where none fits.

    Its own, or that of the models that it follows: so a base model of a later Gemma, which has no
    chat template, is asked as the chat models of its line are.

    Args:
        config_model_type: From config.json.
        name: Hub id, or path of a local folder.
    """
    own = family_of(config_model_type, name)
    later = (f for f in FAMILIES.values() if config_model_type in f.later_types)
    return own or next(later, None)


def render_paper_prompt(family: Family, instruction: str, system: str | None = None) -> str:
    """One prompt as the paper's code writes it, without BOS, up to where the answer begins.

    The instruction is copied as it is, braces included.

    Raises:
        ChatTemplateError: a system prompt for a family that has none (Gemma).
    """
    if system is None:
        return _filled(family.template, _INSTRUCTION, instruction)
    if family.template_with_system is None:
        raise ChatTemplateError(
            f"the paper's template for {family.name} takes no system prompt; run without --system"
        )
    before, _, rest = family.template_with_system.partition(_SYSTEM)
    return before + system + _filled(rest, _INSTRUCTION, instruction)


def _filled(template: str, slot: str, text: str) -> str:
    before, _, after = template.partition(slot)
    return before + text + after


def _own_name(name: str) -> str:
    parts = [part for part in re.split(r"[/\\]", name.lower()) if part]
    cached = [part for part in parts if part.startswith("models--")]
    if cached and "snapshots" in parts:
        return cached[-1].rsplit("--", 1)[-1]
    return parts[-1] if parts else ""
