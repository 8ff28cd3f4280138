"""vLLM as an engine: what is asked of it, what is proven first, and what becomes of its failures.

The engine here is a stand-in that runs transformers; `tests/real/test_vllm.py` runs vLLM itself.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from completed import completed, jobs_of
from tiny_models import tiny_chat

from refusalscope.errors import EngineError, InputError
from refusalscope.generate.completions import GenerationOptions, Plan, plan
from refusalscope.generate.vllm_engine import VllmOptions, their_names, vllm_engine
from refusalscope.generate.vllm_process import vllm_process
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.results.engine_records import EngineProof
from refusalscope.results.records import Completion, Condition

FAKE = Path(__file__).parents[1] / "fake_vllm"
CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "addition")
TEXTS = ["paint the door", "paint", "what now?", "open it, then close it again"]


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE))


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
        },
        "options": GenerationOptions(max_new_tokens=9, batch_size=4),
    }


def planned_of(chat: ChatModel, *, width: int | None = None) -> Plan:
    return plan(chat, jobs_of(chat, TEXTS, CONDITIONS), **given(width or chat.d_model))


def written(chat: ChatModel, tmp_path: Path) -> tuple[list[Completion], EngineProof]:
    planned = planned_of(chat)
    options = VllmOptions(python=sys.executable)
    with vllm_engine(chat, planned, options, log=tmp_path / "log") as (engine, proof):
        return [row for rows in engine.complete(planned) for row in rows], proof


def test_it_writes_what_transformers_writes_under_every_condition(
    chat: ChatModel, tmp_path: Path
) -> None:
    rows, proof = written(chat, tmp_path)
    own = {
        row.slot: row
        for row in completed(chat, jobs_of(chat, TEXTS, CONDITIONS), **given(chat.d_model))
    }
    assert {row.slot: row for row in rows} == own
    assert len({row.completion for row in rows}) > 3
    assert [row.condition for row in proof.rows] == ["baseline", "ablation", "addition"]
    assert all(0 <= row.largest < 1e-4 and row.n_tokens > 30 for row in proof.rows)


@pytest.mark.slow
def test_what_is_done_is_not_written_again(chat: ChatModel, tmp_path: Path) -> None:
    planned = planned_of(chat)
    done = [("harmless", "baseline", i) for i in range(3)]
    options = VllmOptions(python=sys.executable)
    told: list[int] = []
    with vllm_engine(chat, planned, options, log=tmp_path / "log") as (engine, _):
        rows = [
            row
            for some in engine.complete(planned, done=done, progress=told.append)  # pyright: ignore[reportArgumentType] # conditions as words
            for row in some
        ]
    assert len(rows) == sum(told) == 9
    assert not {row.slot for row in rows} & set(done)


def test_a_module_that_writes_something_else_is_named(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "model.layers.0.self_attn"
    monkeypatch.setenv("FAKE_VLLM", f"scale:{module}")
    with pytest.raises(EngineError, match=f"under baseline differ .* first module .* is {module};"):
        written(chat, tmp_path)


@pytest.mark.slow
def test_an_intervention_that_does_not_act_is_found(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "deaf")
    with pytest.raises(EngineError, match=r"under ablation differ .* does not act there as here"):
        written(chat, tmp_path)


def test_a_module_that_is_not_there_is_named(chat: ChatModel) -> None:
    names = [name for name, _ in chat.model.named_modules()]
    assert their_names(chat, names)["model.layers.0.mlp"] == "model.layers.0.mlp"
    with pytest.raises(EngineError, match=r"has no module model\.layers\.1\.mlp"):
        their_names(chat, [name for name in names if name != "model.layers.1.mlp"])


def test_a_model_whose_body_has_another_name_is_found_below_model(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    body = [name for name, _ in chat.model.get_submodule("model").named_modules()]
    chat.model.base_model_prefix = "transformer"
    found = their_names(chat, [f"model.{name}" for name in body])
    assert found["model.layers.0"] == "model.layers.0"


@pytest.mark.slow
def test_a_model_that_it_cannot_load_is_one_line(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "load")
    with pytest.raises(EngineError) as raised:
        written(chat, tmp_path)
    assert "no such architecture, says a message of several lines" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "log") in str(raised.value)


@pytest.mark.slow
def test_one_that_dies_leaves_what_it_had_written(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "die:6")
    planned = planned_of(chat)
    kept: list[Completion] = []
    with (
        pytest.raises(EngineError, match=r"ended with status 9 \("),
        vllm_engine(chat, planned, VllmOptions(python=sys.executable), log=tmp_path / "log") as (
            engine,
            _,
        ),
    ):
        for rows in engine.complete(planned):
            kept += rows
    assert len(kept) == 5
    own = {
        row.slot: row
        for row in completed(chat, jobs_of(chat, TEXTS, CONDITIONS), **given(chat.d_model))
    }
    assert all(own[row.slot] == row for row in kept)


@pytest.mark.slow
def test_no_such_python_and_no_vllm_in_it(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = planned_of(chat)
    with (
        pytest.raises(InputError, match="--vllm-python '/nowhere/python' cannot be run"),
        vllm_engine(chat, planned, VllmOptions(python="/nowhere/python"), log=tmp_path / "log"),
    ):
        pass
    monkeypatch.delenv("PYTHONPATH")
    with (
        pytest.raises(EngineError, match=r"ended with status 1 \(.*No module named 'vllm'"),
        vllm_engine(chat, planned, VllmOptions(python=sys.executable), log=tmp_path / "log"),
    ):
        pass


@pytest.mark.slow
def test_a_direction_of_another_width_is_refused(chat: ChatModel, tmp_path: Path) -> None:
    planned = Plan(
        groups=planned_of(chat).groups,
        are_whole=False,
        options=GenerationOptions(max_new_tokens=9),
        interventions=given(chat.d_model + 1)["interventions"],
        stream=None,
    )
    with (
        pytest.raises(InputError, match="residual stream is 32 wide"),
        vllm_engine(chat, planned, VllmOptions(python=sys.executable), log=tmp_path / "log"),
    ):
        pass


def test_processes_are_gone_afterwards(tmp_path: Path) -> None:
    with vllm_process(sys.executable, log=tmp_path / "log") as process:
        pid = process._process.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
