"""vLLM serving edited checkpoints: the same tokens as under hooks, each condition proven first.

The engine here is a stand-in that runs transformers; `tests/real/test_vllm.py` runs vLLM itself.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from completed import completed, jobs_of
from tiny_models import tiny_chat

from refusalscope.errors import EngineError
from refusalscope.generate.completions import GenerationOptions, Plan, plan
from refusalscope.generate.vllm_engine import VllmOptions
from refusalscope.generate.vllm_weights import vllm_by_weights
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.results.engine_records import EngineProof, ProofRow
from refusalscope.results.records import Completion, Condition

FAKE = Path(__file__).parents[1] / "fake_vllm"
CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "addition", "subtraction")
TEXTS = ["paint the door", "paint", "open it, then close it again"]


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "model")


def given(width: int) -> dict[str, Any]:
    vector = 3 * torch.randn(width, generator=torch.Generator().manual_seed(1))
    return {
        "interventions": {
            "baseline": None,
            "ablation": Intervention(operator="ablate", vector=vector),
            "addition": Intervention(operator="add", vector=vector, layer=1),
            "subtraction": Intervention(operator="add", vector=-vector, layer=1),
        },
        "options": GenerationOptions(max_new_tokens=9, batch_size=4),
    }


def planned_of(chat: ChatModel) -> Plan:
    return plan(chat, jobs_of(chat, TEXTS, CONDITIONS), **given(chat.d_model))


def written(
    chat: ChatModel, folder: Path, proofs: list[EngineProof], **more: Any
) -> list[Completion]:
    planned = planned_of(chat)
    options = VllmOptions(python=sys.executable)
    with vllm_by_weights(
        chat, planned, options, log=folder / "log", proven=proofs.append
    ) as served:
        return [row for rows in served.complete(planned, **more) for row in rows]


def test_it_writes_what_transformers_writes_under_every_condition(
    chat: ChatModel, tmp_path: Path
) -> None:
    proofs: list[EngineProof] = []
    rows = written(chat, tmp_path, proofs)
    own = {
        row.slot: row
        for row in completed(chat, jobs_of(chat, TEXTS, CONDITIONS), **given(chat.d_model))
    }
    assert {row.slot: row for row in rows} == own
    assert len({row.completion for row in rows}) > 4
    assert [len(proof.rows) for proof in proofs] == [1, 2, 3, 4]
    last = proofs[-1]
    assert (last.by, tuple(row.condition for row in last.rows)) == ("weights", CONDITIONS)
    assert all(0 <= row.largest < 1e-4 and row.n_tokens > 30 for row in last.rows)
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.slow
def test_a_condition_that_is_done_is_not_loaded(chat: ChatModel, tmp_path: Path) -> None:
    done = [("harmless", condition, i) for condition in CONDITIONS[:3] for i in range(3)]
    proofs: list[EngineProof] = []
    told: list[int] = []
    rows = written(chat, tmp_path, proofs, done=done, progress=told.append)
    assert {row.condition for row in rows} == {"subtraction"}
    assert len(rows) == sum(told) == 3
    assert [row.condition for row in proofs[-1].rows] == ["subtraction"]


def test_an_edit_that_is_not_what_it_serves_is_refused(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "scale:model.layers.0.mlp")
    proofs: list[EngineProof] = []
    with pytest.raises(
        EngineError, match=r"under baseline differ .* nats, more than 0.001; use --by h"
    ):
        written(chat, tmp_path, proofs)
    assert not proofs
    assert not list((tmp_path / "scratch").iterdir())


def test_an_addition_that_no_bias_can_carry_is_refused_before_anything(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "qwen", "qwen2")
    with pytest.raises(EngineError, match=r"addition cannot be put into the weights: qwen2: no bi"):
        written(chat, tmp_path, [])
    assert not (tmp_path / "log").exists()


def test_a_proof_keeps_what_was_shown_of_other_conditions() -> None:
    def proof(by: str, **largest: float) -> EngineProof:
        rows = [
            ProofRow.model_validate({"condition": name, "n_tokens": 9, "largest": value})
            for name, value in largest.items()
        ]
        return EngineProof.model_validate(
            {"engine": "vllm", "by": by, "version": "1", "tolerance": 1.0, "rows": rows}
        )

    earlier = proof("weights", baseline=0.1, ablation=0.2)
    later = proof("weights", ablation=0.3, addition=0.4)
    both = later.beside(earlier)
    assert [(r.condition, r.largest) for r in both.rows] == [
        ("baseline", 0.1),
        ("ablation", 0.3),
        ("addition", 0.4),
    ]
    assert later.beside(None) == later
    assert proof("hooks", addition=0.4).beside(earlier) == proof("hooks", addition=0.4)
