"""Batches are made and run in one place: nowhere else are prompts padded or models called."""

import ast
from pathlib import Path

import pytest

import refusalscope

SOURCE = Path(refusalscope.__file__).parent
OF_THE_ENGINE = {
    "pad",
    "by_length",
    "in_halves",
    "last_token_logits",
    "prefix_cache",
    "scored_logits",
    "greedy_rows",
}
ALLOWED = ("engine/", "generate/", "models/batches.py", "models/forward.py")
OTHERS = {
    "mechanism/head_layout.py": "one pass over random tokens shows which heads there are",
    "models/meta_model.py": "tensors without numbers: what a pass allocates is counted",
    "models/trace.py": "one pass over random tokens",
    "pipeline/behaviour.py": "an edited checkpoint against hooks, on one batch of random tokens",
    "weights/adapter.py": "an adapter against the edit, on one batch of random tokens",
    "organisms/fit.py": "training, of models that are grown here",
    "organisms/exchanges.py": "its batches of tokens are training data",
    "pipeline/harden.py": "training: the untuned model on the batch that a step of it has",
    "pipeline/lora.py": "training: a loop of its own, whose passes have gradients",
}


def called(tree: ast.AST) -> set[str]:
    """Names of what is called, and `model` for whatever is given token ids as a model is."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            found.add(node.func.id)
        if {"input_ids", "use_cache", "inputs_embeds"} & {k.arg for k in node.keywords if k.arg}:
            found.add("model")
    return found


def calls_of_the_engine() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        own = called(ast.parse(path.read_text())) & (OF_THE_ENGINE | {"model"})
        if own and not name.startswith(ALLOWED):
            found[name] = own
    return found


def test_nobody_else_makes_batches_or_runs_a_model():
    found = calls_of_the_engine()
    assert {name: own for name, own in found.items() if name not in OTHERS} == {}
    assert set(OTHERS) <= set(found), "an exception that is none any more"
    assert found["pipeline/lora.py"] == {"scored_logits"}
    counted = "models/meta_model.py"
    assert found[counted] == {"last_token_logits", "model", "prefix_cache"}
    for name in set(OTHERS) - {"pipeline/lora.py", counted}:
        assert found[name] == {"model"}, name


@pytest.mark.parametrize(
    "text",
    [
        "batch = pad(prompts, pad_id=0)",
        "chat.model(input_ids=ids).logits",
        "net(ids, use_cache=False)",
    ],
)
def test_a_loop_of_its_own_would_be_found(text: str):
    assert called(ast.parse(text)) & (OF_THE_ENGINE | {"model"})
