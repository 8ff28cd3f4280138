"""On the bundled organism the edited weights do what the hooks do, completion by completion."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny_edits import edit

from refusalscope.directions.direction import Direction
from refusalscope.generate.greedy import generate_greedy
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.refusal_phrases import is_refusal
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.organisms.organism import read_organism
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder

N = 16


@pytest.fixture(scope="module")
def chat(organism: Path) -> ChatModel:
    return load_chat_model(str(organism))


@pytest.fixture(scope="module")
def instructions(organism: Path) -> dict[str, list[str]]:
    found = read_organism(organism)
    assert found is not None
    return {
        kind: [
            row.instruction
            for row in found.language().instructions(
                "train", harmful=kind == "harmful", n=N, seed=1
            )
        ]
        for kind in ("harmful", "harmless")
    }


def completions(
    chat: ChatModel, instructions: list[str], hooks: Intervention | None = None
) -> list[str]:
    on = nullcontext() if hooks is None else intervene(chat.model, chat.anatomy, [hooks] * N)
    with on:
        prompts = chat.encode(instructions)
        return [found.text for found in generate_greedy(chat, prompts, max_new_tokens=24)]


def rate(texts: list[str]) -> float:
    return sum(map(is_refusal, texts)) / len(texts)


def test_the_orthogonalized_checkpoint_answers_as_the_model_under_ablation(
    tmp_path: Path,
    chat: ChatModel,
    organism: Path,
    refusal: Direction,
    instructions: dict[str, list[str]],
) -> None:
    edit(organism, tmp_path / "edited", refusal.vector)
    edited = load_chat_model(str(tmp_path / "edited"))
    ablate = Intervention(operator="ablate", vector=refusal.vector)
    for kind, given in instructions.items():
        plain, hooked = completions(chat, given), completions(chat, given, ablate)
        assert completions(edited, given) == hooked, kind
        if kind == "harmful":
            assert rate(plain) > 0.8
            assert rate(hooked) < 0.2


def test_the_checkpoint_with_an_added_bias_answers_as_the_model_under_addition(
    tmp_path: Path,
    chat: ChatModel,
    organism: Path,
    refusal: Direction,
    instructions: dict[str, list[str]],
) -> None:
    add_to_checkpoint(ModelFolder(folder=organism), tmp_path / "edited", refusal)
    edited = load_chat_model(str(tmp_path / "edited"))
    assert refusal.layer is not None
    adds = Intervention(operator="add", vector=refusal.vector, layer=refusal.layer)
    given = instructions["harmless"]
    hooked = completions(chat, given, adds)
    assert completions(edited, given) == hooked
    assert rate(completions(chat, given)) < 0.2
    assert rate(hooked) > 0.8
