import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import ChatTemplateError
from refusalscope.models.families import (
    FAMILIES,
    PAPER_MODELS,
    family_of,
    render_paper_prompt,
)

CHATML = "<|im_start|>user\nName a colour<|im_end|>\n<|im_start|>assistant\n"
LLAMA_3 = (
    "<|start_header_id|>user<|end_header_id|>\n\nName a colour<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
MODEL_TYPES = {
    "Qwen": "qwen",
    "Yi": "llama",
    "Gemma": "gemma",
    "Llama-2": "llama",
    "Llama-3": "llama",
}


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("Qwen", CHATML),
        ("Yi", CHATML),
        (
            "Gemma",
            "<start_of_turn>user\nName a colour<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("Llama-2", "[INST] Name a colour [/INST] "),
        ("Llama-3", LLAMA_3),
    ],
)
def test_prompt_without_system_is_the_papers(family, prompt):
    assert render_paper_prompt(FAMILIES[family], "Name a colour") == prompt


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("Qwen", f"<|im_start|>system\nBe brief.<|im_end|>\n{CHATML}"),
        ("Yi", f"<|im_start|>system\nBe brief.<|im_end|>\n{CHATML}"),
        ("Llama-2", "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nName a colour [/INST] "),
        (
            "Llama-3",
            f"<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>{LLAMA_3}",
        ),
    ],
)
def test_prompt_with_system_is_the_papers(family, prompt):
    assert render_paper_prompt(FAMILIES[family], "Name a colour", "Be brief.") == prompt


def test_gemma_takes_no_system_prompt():
    with pytest.raises(ChatTemplateError, match="Gemma takes no system prompt; run without"):
        render_paper_prompt(FAMILIES["Gemma"], "Name a colour", system="Be brief.")


def test_an_empty_system_prompt_is_a_system_prompt():
    prompt = render_paper_prompt(FAMILIES["Qwen"], "Name a colour", "")
    assert prompt == f"<|im_start|>system\n<|im_end|>\n{CHATML}"


@settings(deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(FAMILIES)),
    instruction=st.text() | st.sampled_from(["{instruction}", "{system}", "{0}", "{}"]),
    system=st.none() | st.text() | st.sampled_from(["{instruction}", "{system}"]),
)
def test_instruction_and_system_are_copied_as_they_are(name, instruction, system):
    family = FAMILIES[name]
    if family.template_with_system is None:
        system = None
    prompt = render_paper_prompt(family, instruction, system)
    end = family.template.split("{instruction}")[1]
    assert prompt.endswith(instruction + end)
    if system is None:
        assert prompt == family.template.split("{instruction}")[0] + instruction + end
    else:
        assert family.template_with_system is not None
        assert prompt.startswith(family.template_with_system.split("{system}")[0] + system)


@pytest.mark.parametrize(
    ("name", "tokens", "strings", "n_post", "alignment"),
    [
        ("Qwen", (40, 2121), ("I", "As"), 5, "fine-tuning"),
        ("Yi", (59597,), ("I",), 6, "fine-tuning"),
        ("Gemma", (235285,), ("I",), 5, "preference optimization"),
        ("Llama-2", (306,), ("I",), 6, "preference optimization"),
        ("Llama-3", (40,), ("I",), 5, "preference optimization"),
    ],
)
def test_refusal_tokens_and_positions_are_those_of_table_4_and_of_the_code(
    name, tokens, strings, n_post, alignment
):
    family = FAMILIES[name]
    assert family.name == name
    assert family.refusal_tokens == tokens
    assert family.refusal_strings == strings
    assert family.n_post_instruction_tokens == n_post
    assert family.alignment == alignment


def test_default_system_prompts_are_those_of_figures_17_and_18():
    defaults = {name: family.default_system_prompt for name, family in FAMILIES.items()}
    assert defaults["Qwen"] == "You are a helpful assistant."
    llama = defaults["Llama-2"]
    assert llama is not None
    assert llama.startswith("You are a helpful, respectful and honest assistant. Always answer as")
    assert "while being safe. Your answers should not" in llama
    assert llama.count("\n\n") == 1
    assert llama.endswith("please don't share false information.")
    assert defaults["Yi"] is defaults["Gemma"] is defaults["Llama-3"] is None


def test_the_thirteen_models_are_those_of_the_paper():
    rows = {
        model.name: (model.n_layers, model.d_model, model.n_heads, model.d_vocab)
        for model in PAPER_MODELS
    }
    assert rows == {
        "Qwen 1.8B": (24, 2048, 16, 151936),
        "Qwen 7B": (32, 4096, 32, 151936),
        "Qwen 14B": (40, 5120, 40, 152064),
        "Qwen 72B": (80, 8192, 64, 152064),
        "Yi 6B": (32, 4096, 32, 64000),
        "Yi 34B": (60, 7168, 56, 64000),
        "Gemma 2B": (18, 2048, 8, 256000),
        "Gemma 7B": (28, 3072, 16, 256000),
        "Llama-2 7B": (32, 4096, 32, 32000),
        "Llama-2 13B": (40, 5120, 40, 32000),
        "Llama-2 70B": (80, 8192, 64, 32000),
        "Llama-3 8B": (32, 4096, 32, 128256),
        "Llama-3 70B": (80, 8192, 64, 128256),
    }


@pytest.mark.parametrize("model", PAPER_MODELS, ids=lambda model: model.name)
def test_each_model_fits_its_family(model):
    family = FAMILIES[model.family]
    assert model.d_model % model.n_heads == 0
    assert max(family.refusal_tokens) < model.d_vocab
    assert (model.dtype == "bfloat16") == (model.family in {"Gemma", "Llama-3"})
    assert family_of(MODEL_TYPES[model.family], model.hub_id) is family


@pytest.mark.parametrize(
    ("model_type", "name", "family"),
    [
        ("llama", "/models/Llama-2-7b-chat-hf/", "Llama-2"),
        ("llama", "NousResearch/Meta-Llama-3-8B-Instruct", "Llama-3"),
        ("gemma", "google/gemma-1.1-2b-it", "Gemma"),
        ("qwen", "C:\\models\\Qwen-7B-Chat", "Qwen"),
        ("llama", "/home/someone/.cache/hub/models--01-ai--Yi-6B-Chat/snapshots/0f3a", "Yi"),
    ],
)
def test_family_is_known_by_type_and_own_name(model_type, name, family):
    assert family_of(model_type, name) is FAMILIES[family]


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("gemma", "/models/qwen-7b-chat"),  # the type contradicts the name
        ("llama", "/models/qwen-7b-chat"),
        ("qwen", "/models/gemma-2b-it"),
        ("llama", "/qwen-7b/llama-2-7b/tiny"),  # the name of a folder above is not its own
        ("qwen", "/models/my-qwen-7b"),
        ("llama", "/models/copy-of-yi-6b-chat"),
        ("llama", "/models/yips-6b"),
        ("qwen2", "Qwen/Qwen2.5-7B-Instruct"),  # later models are not the paper's
        ("qwen", "Qwen/Qwen2-7B"),
        ("gemma2", "google/gemma-2-2b-it"),
        ("llama", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama", "01-ai/Yi-1.5-6B-Chat"),
        ("llama", "/home/someone/.cache/hub/models--someone--tiny/snapshots/llama-2-"),
        ("llama", ""),
        ("", "Qwen/Qwen-7B-Chat"),
    ],
)
def test_any_other_model_has_no_family(model_type, name):
    assert family_of(model_type, name) is None
