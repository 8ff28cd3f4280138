"""vLLM itself, where REFUSALSCOPE_VLLM_PYTHON names a python that has it (`scripts/vllm_env`)."""

import json
import os
from pathlib import Path

import pytest
import torch
from completed import completed, jobs_of
from tiny_models import tiny_chat

from refusalscope.errors import EngineError
from refusalscope.generate.completions import GenerationOptions, plan
from refusalscope.generate.vllm_engine import VllmOptions, vllm_engine
from refusalscope.generate.vllm_weights import vllm_by_weights
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.organisms.organism import resolve_model
from refusalscope.results.engine_records import EngineProof
from refusalscope.results.records import Completion, Condition

pytestmark = pytest.mark.slow
_VARIABLE = "REFUSALSCOPE_VLLM_PYTHON"
CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "addition")


@pytest.fixture(scope="module")
def python() -> str:
    named = os.environ.get(_VARIABLE)
    if named is None:
        pytest.skip(f"{_VARIABLE} names no python of an environment with vLLM")
    return named


def both(
    chat: ChatModel,
    texts: list[str],
    python: str,
    tmp_path: Path,
    *,
    tokens: int,
    by_weights: bool = False,
) -> tuple[list[Completion], list[Completion], EngineProof]:
    """The completions of transformers and of vLLM, in one order."""
    vector = torch.randn(chat.d_model, generator=torch.Generator().manual_seed(1))
    vector = 20 * vector / vector.norm()
    jobs = jobs_of(chat, texts, CONDITIONS)
    given = {
        "interventions": {
            "baseline": None,
            "ablation": Intervention(operator="ablate", vector=vector),
            "addition": Intervention(operator="add", vector=vector, layer=chat.n_layers // 2),
        },
        "options": GenerationOptions(max_new_tokens=tokens, batch_size=16),
    }
    planned = plan(chat, jobs, **given)
    options = VllmOptions(python=python)
    proofs: list[EngineProof] = []
    log = tmp_path / "log"
    if by_weights:
        with vllm_by_weights(chat, planned, options, log=log, proven=proofs.append) as served:
            theirs = {row.slot: row for rows in served.complete(planned) for row in rows}
    else:
        with vllm_engine(chat, planned, options, log=log) as (engine, proof):
            theirs = {row.slot: row for rows in engine.complete(planned) for row in rows}
            proofs.append(proof)
    own = completed(chat, jobs, **given)
    return own, [theirs[row.slot] for row in own], proofs[-1]


@pytest.mark.parametrize("by_weights", [False, True], ids=["hooks", "weights"])
def test_a_real_model_answers_the_same_under_every_condition(
    python: str, reference: Path, tmp_path: Path, by_weights: bool
) -> None:
    folder = os.environ.get("REFUSALSCOPE_REAL_MODELS")
    if folder is None:
        pytest.skip("REFUSALSCOPE_REAL_MODELS names no folder of models")
    chat = load_chat_model(str(Path(folder) / "smollm2-135m-instruct"))
    rows = json.loads((reference / "splits" / "harmless_test.json").read_text("utf-8"))[:8]
    texts = [row["instruction"] for row in rows]
    own, theirs, proof = both(chat, texts, python, tmp_path, tokens=8, by_weights=by_weights)
    assert [row.condition for row in proof.rows] == list(CONDITIONS)
    assert max(row.largest for row in proof.rows) < proof.tolerance
    same = [a.token_ids == b.token_ids for a, b in zip(own, theirs, strict=True)]
    assert sum(same) >= 23  # of 24; what differs is a tie, shown by benchmarks/completions.py
    by_condition = {name: [r.text for r in theirs if r.condition == name] for name in CONDITIONS}
    assert len({tuple(texts) for texts in by_condition.values()}) == 3


def test_a_miniature_answers_the_same(python: str, tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny", hidden_size=128, intermediate_size=96)  # heads of 32
    texts = ["paint the door", "x", "what now?"]
    own, theirs, _ = both(chat, texts, python, tmp_path, tokens=9)
    assert own == theirs


def test_heads_that_its_attention_does_not_take_are_one_line(python: str, tmp_path: Path) -> None:
    chat = load_chat_model(resolve_model("organism:llama3-aft"))
    with pytest.raises(EngineError, match=r"vLLM cannot do this: .*head_dim=24") as raised:
        both(chat, ["open the door"], python, tmp_path, tokens=4)
    assert "\n" not in str(raised.value)
