"""Text becomes tokens in one place, where what it spells stays text: nobody else makes them."""

import ast
from pathlib import Path

import pytest

import refusalscope

SOURCE = Path(refusalscope.__file__).parent
OF_A_TOKENIZER = {
    "apply_chat_template",
    "batch_encode_plus",
    "encode_batch",
    "encode_plus",
    "tokenize",
}
OF_ONE_TEXT = {"encode", "prepare_for_model", "text_target"}
ITS_OPTIONS = {"add_special_tokens", "return_offsets_mapping", "is_split_into_words"}
OTHERS = {
    "pipeline/lora.py": "what the chat template writes behind an answer: a frame",
    "evaluation/local_answerer.py": "the words that a judge is to answer with",
    "mechanism/base_and_chat.py": "a newline",
    "organisms/exchanges.py": "training data, in a template of our own",
    "pipeline/plan/plan.py": "a letter, for what a tokenizer holds once it has worked",
    "pipeline/refusal_tokens.py": "the spelling of one token, which may be a control token",
}


def name_of(node: ast.expr) -> str:
    """The last name of what is called, or called upon."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return name_of(node.func)
    return node.id if isinstance(node, ast.Name) else ""


def tokenizes(tree: ast.AST) -> bool:
    """Whether a tokenizer, or what it is made of, is given a text."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = name_of(node.func)
        on = name_of(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        is_tokenizers = on.lower().endswith(("tokenizer", "backend", "tok"))
        if (
            called.strip("_") in ("tokenizer", "tok")
            or (called in OF_A_TOKENIZER and on)
            or (called in OF_ONE_TEXT and is_tokenizers)
            or (ITS_OPTIONS & {k.arg for k in node.keywords} and called != "tok_encode")
        ):
            return True
    return False


def test_nobody_else_calls_a_tokenizer_on_text():
    found = {
        name
        for path in sorted(SOURCE.rglob("*.py"))
        if not (name := path.relative_to(SOURCE).as_posix()).startswith("models/")
        if tokenizes(ast.parse(path.read_text("utf-8")))
    }
    assert found == set(OTHERS)


def test_the_exceptions_give_no_text_of_a_user_to_a_tokenizer():
    """One call each, in the function that the reason is about."""
    for name in OTHERS:
        tree = ast.parse((SOURCE / name).read_text("utf-8"))
        functions = [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and tokenizes(node)
        ]
        assert len(functions) == 1, (name, functions)


@pytest.mark.parametrize(
    "text",
    [
        "chat.tokenizer(text).input_ids",
        "self._tokenizer(text)",
        "tok = load()\nids = tok(text)",
        "tokenizer.encode(text)",
        "tokenizer.apply_chat_template(messages)",
        "tokenizer.backend_tokenizer.encode(text)",
        "read(text, add_special_tokens=False)",
    ],
)
def test_a_call_would_be_found(text: str):
    assert tokenizes(ast.parse(text))


@pytest.mark.parametrize(
    "text", ["chat.encode([text])", "text.encode()", "token_ids(tokenizer, [text])"]
)
def test_ordinary_calls_are_none(text: str):
    assert not tokenizes(ast.parse(text))
