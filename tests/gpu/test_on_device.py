"""The same numbers on an accelerator as on the CPU: `scripts/gpu_check` runs these.

With REFUSALSCOPE_GPU_DRY set they run on the CPU against the CPU, which shows that they run, and
nothing of accelerators; what needs half precision is left out then.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from completed import completed
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.activations.next_token import mean_next_token_probabilities, refusal_metrics
from refusalscope.activations.streams import streams_at
from refusalscope.data.instruction import Instruction
from refusalscope.engine.first_order import first_order
from refusalscope.engine.rows import under
from refusalscope.evaluation.answer_drift import drift
from refusalscope.evaluation.loss import text_loss
from refusalscope.evaluation.projections import WrittenAnswer, answer_projections
from refusalscope.generate import stream as stream_module
from refusalscope.generate.completions import CompletionJob, GenerationOptions
from refusalscope.interventions.intervention import Intervention
from refusalscope.mechanism.attribution import attribute
from refusalscope.mechanism.head_layout import measure_heads
from refusalscope.mechanism.suffix_objective import suffix_objective
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.metrics.refusal_tokens import propose_refusal_tokens
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.load_options import Dtype, LoadOptions
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText, scored_prompt
from refusalscope.organisms.organism import read_organism, resolve_model
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.records import Completion, Condition, Selection, SelectionLimits
from refusalscope.selection.select_direction import SelectionPlan, select_direction
from refusalscope.weights.orthogonalize import orthogonalized

pytestmark = pytest.mark.gpu
SOURCE = "organism:llama3-aft"
CLOSE = 2e-3
"""Of float32 sums that are taken in another order."""
CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "addition", "subtraction")


@pytest.fixture(scope="module")
def device() -> str:
    if os.environ.get("REFUSALSCOPE_GPU_DRY"):
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("this machine has no accelerator")
    return "cuda:0"


@pytest.fixture(scope="module", autouse=True)
def exact() -> None:
    """Float32 products in float32, as on the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def loaded(device: str, dtype: Dtype) -> ChatModel:
    return load_chat_model(resolve_model(SOURCE), LoadOptions(device=device, dtype=dtype))


@pytest.fixture(scope="module")
def here() -> ChatModel:
    return loaded("cpu", "float32")


@pytest.fixture(scope="module")
def there(device: str) -> ChatModel:
    return loaded(device, "float32")


@pytest.fixture(scope="module")
def half(device: str) -> ChatModel:
    if device == "cpu":
        pytest.skip("bfloat16 is for accelerators")
    return loaded(device, "bfloat16")


@pytest.fixture(scope="module")
def sets(here: ChatModel) -> dict[str, list[Prompt]]:
    facts = read_organism(Path(resolve_model(SOURCE)))
    assert facts is not None
    language = facts.language()
    return {
        f"{kind}_{role}": here.encode(
            [
                one.instruction
                for one in language.instructions(role, harmful=kind == "harmful", n=24, seed=0)
            ]
        )
        for kind in ("harmful", "harmless")
        for role in ("train", "val")
    }


@pytest.fixture(scope="module")
def tokens(here: ChatModel, sets: dict[str, list[Prompt]]) -> tuple[int, ...]:
    first = [
        mean_next_token_probabilities(here, sets[name])
        for name in ("harmful_train", "harmless_train")
    ]
    return tuple(token.id for token in propose_refusal_tokens(*first))


@pytest.fixture(scope="module")
def differences(here: ChatModel, sets: dict[str, list[Prompt]]) -> Tensor:
    return _differences(here, sets)


def _differences(chat: ChatModel, sets: dict[str, list[Prompt]]) -> Tensor:
    return difference_in_means(
        harmful=resid_pre_moments(chat, sets["harmful_train"]).means,
        harmless=resid_pre_moments(chat, sets["harmless_train"]).means,
    )


@pytest.fixture(scope="module")
def edits(differences: Tensor) -> dict[Condition, Intervention | None]:
    vector = differences[-1, 5].float()
    return {
        "baseline": None,
        "ablation": Intervention(operator="ablate", vector=vector),
        "addition": Intervention(operator="add", vector=vector, layer=5),
        "subtraction": Intervention(operator="add", vector=-vector, layer=5),
    }


def same(own: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(own.cpu().double(), other.cpu().double(), atol=CLOSE, rtol=CLOSE)


def test_a_model_is_where_it_was_asked_to_be(there: ChatModel, device: str) -> None:
    assert {str(p.device) for p in there.model.parameters()} == {device}
    assert str(there.device) == device


def test_means_and_variances(
    here: ChatModel, there: ChatModel, sets: dict[str, list[Prompt]]
) -> None:
    own, other = (resid_pre_moments(chat, sets["harmful_train"]) for chat in (here, there))
    same(own.means, other.means)
    same(own.variances, other.variances)


def test_next_tokens(here: ChatModel, there: ChatModel, sets: dict[str, list[Prompt]]) -> None:
    own, other = (mean_next_token_probabilities(c, sets["harmful_val"]) for c in (here, there))
    same(own, other)


@pytest.fixture(scope="module")
def chats(here: ChatModel, there: ChatModel) -> tuple[ChatModel, ChatModel]:
    return here, there


@pytest.mark.parametrize("condition", CONDITIONS)
def test_refusal_metrics(
    chats: tuple[ChatModel, ChatModel],
    sets: dict[str, list[Prompt]],
    tokens: tuple[int, ...],
    edits: dict[Condition, Intervention | None],
    condition: Condition,
) -> None:
    own, other = (
        refusal_metrics(chat, sets["harmful_val"], tokens, around=under(chat, edits[condition]))
        for chat in chats
    )
    same(own, other)


def test_streams(here: ChatModel, there: ChatModel, sets: dict[str, list[Prompt]]) -> None:
    for own, other in zip(
        streams_at(here, sets["harmful_val"]), streams_at(there, sets["harmful_val"]), strict=True
    ):
        assert own[0] == other[0]
        same(own[1], other[1])


def test_first_order_estimates(
    here: ChatModel,
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    tokens: tuple[int, ...],
    differences: Tensor,
) -> None:
    metric = partial(refusal_metric, refusal_tokens=tokens)
    own, other = (
        first_order(chat, sets["harmless_val"], differences, metric) for chat in (here, there)
    )
    same(own.added, other.added)
    same(own.ablated, other.ablated)


def chosen(
    chat: ChatModel,
    sets: dict[str, list[Prompt]],
    tokens: tuple[int, ...],
    differences: Tensor,
    *,
    all_scores: bool = False,
) -> Selection:
    return select_direction(
        chat,
        differences,
        harmful=sets["harmful_val"],
        harmless=sets["harmless_val"],
        refusal_tokens=tokens,
        limits=SelectionLimits(),
        plan=SelectionPlan(all_scores=all_scores),
    )


def test_the_choice(
    here: ChatModel,
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    tokens: tuple[int, ...],
    differences: Tensor,
) -> None:
    own, other = (chosen(chat, sets, tokens, differences).chosen for chat in (here, there))
    assert (own.position, own.layer) == (other.position, other.layer)
    assert own.bypass == pytest.approx(other.bypass, abs=1e-2)


@pytest.mark.parametrize("precision", ["there", "half"])
def test_the_search_chooses_what_the_full_grid_chooses(
    request: pytest.FixtureRequest,
    sets: dict[str, list[Prompt]],
    tokens: tuple[int, ...],
    precision: str,
) -> None:
    chat: ChatModel = request.getfixturevalue(precision)
    own = _differences(chat, sets)
    lazy = chosen(chat, sets, tokens, own)
    whole = chosen(chat, sets, tokens, own, all_scores=True)
    assert (lazy.chosen.position, lazy.chosen.layer) == (whole.chosen.position, whole.chosen.layer)
    assert (lazy.sweeps or 0) < (whole.sweeps or 0)


def jobs_of(prompts: list[Prompt]) -> list[CompletionJob]:
    return [
        CompletionJob(
            index=i,
            dataset="harmful",
            condition=condition,
            instruction=Instruction(str(i), None),
            prompt=prompt,
        )
        for i, prompt in enumerate(prompts)
        for condition in CONDITIONS
    ]


def written(
    chat: ChatModel, jobs: list[CompletionJob], edits: dict[Condition, Intervention | None]
) -> list[Completion]:
    """In one order, whichever was done first."""
    rows = completed(chat, jobs, interventions=edits, options=OPTIONS)
    return sorted(rows, key=lambda row: row.slot)


OPTIONS = GenerationOptions(max_new_tokens=24, batch_size=16)


def test_completions_under_every_condition(
    here: ChatModel,
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    edits: dict[Condition, Intervention | None],
) -> None:
    jobs = jobs_of(sets["harmful_val"])
    own, other = (written(chat, jobs, edits) for chat in (here, there))
    parted = [a for a, b in zip(own, other, strict=True) if a.token_ids != b.token_ids]
    assert len(parted) <= len(own) // 50, parted  # near ties
    assert len({row.completion for row in own}) > 10


def test_completions_in_half_precision_are_the_same_each_time(
    half: ChatModel,
    sets: dict[str, list[Prompt]],
    edits: dict[Condition, Intervention | None],
) -> None:
    jobs = jobs_of(sets["harmful_val"])
    first, again = (written(half, jobs, edits) for _ in range(2))
    assert first == again


def test_rows_that_do_not_fit_are_halved_and_the_memory_is_free_again(
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    edits: dict[Condition, Intervention | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = jobs_of(sets["harmful_val"][:8])
    whole = written(there, jobs, edits)
    forward: Callable[..., Any] = stream_module.next_logits

    def crowded(model: Any, ids: Tensor, *args: Any) -> Any:
        if len(ids) > 4:
            held = torch.empty(1 << 24, device=ids.device)
            raise torch.OutOfMemoryError(f"no room beside {held.numel()} numbers")
        return forward(model, ids, *args)

    monkeypatch.setattr(stream_module, "next_logits", crowded)
    before = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    assert written(there, jobs, edits) == whole
    after = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    assert after - before < 1 << 24


def texts_of(prompts: list[Prompt]) -> list[ScoredText]:
    return [scored_prompt(prompt, (*prompt.ids[:6],)) for prompt in prompts]


def test_losses(
    here: ChatModel,
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    edits: dict[Condition, Intervention | None],
) -> None:
    texts = texts_of(sets["harmless_val"])
    own, other = (
        text_loss(chat, texts, dataset="d", interventions=edits) for chat in (here, there)
    )
    assert [row.loss for row in own] == pytest.approx([row.loss for row in other], abs=1e-3)


def test_drift(
    here: ChatModel,
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    edits: dict[Condition, Intervention | None],
) -> None:
    texts = texts_of(sets["harmless_val"])
    told: dict[Condition, Intervention] = {
        name: edit for name, edit in edits.items() if edit is not None
    }
    own, other = (drift(chat, texts, interventions=told) for chat in (here, there))
    for name in told:
        for a, b in zip(own[name], other[name], strict=True):
            same(a.by_token, b.by_token)


def test_projections_of_answers(
    here: ChatModel,
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    edits: dict[Condition, Intervention | None],
    differences: Tensor,
) -> None:
    answers = [
        WrittenAnswer(prompt=prompt, tokens=prompt.ids[:5], intervention=edit)
        for prompt in sets["harmful_val"][:6]
        for edit in edits.values()
    ]
    layers = range(here.n_layers)
    own, other = (
        answer_projections(chat, answers, differences[-1, 5], layers=layers)
        for chat in (here, there)
    )
    for a, b in zip(own, other, strict=True):
        same(a, b)


def test_attribution_to_heads(
    here: ChatModel, there: ChatModel, sets: dict[str, list[Prompt]], differences: Tensor
) -> None:
    heads = measure_heads(here.model)
    own, other = (
        attribute(chat, heads, sets["harmful_val"], differences[-1, 5]) for chat in (here, there)
    )
    same(own.contributions, other.contributions)


def test_gradients_of_a_suffix(
    here: ChatModel, there: ChatModel, sets: dict[str, list[Prompt]], tokens: tuple[int, ...]
) -> None:
    prompts = sets["harmful_val"][:4]
    suffix = torch.tensor([prompts[0].ids[1:5]])
    own, other = (
        suffix_objective(chat, prompts, [tokens[0]] * len(prompts)).losses(suffix)
        for chat in (here, there)
    )
    same(own, other)


def test_the_edit_in_memory_is_ablation_and_is_taken_back(
    there: ChatModel,
    sets: dict[str, list[Prompt]],
    tokens: tuple[int, ...],
    edits: dict[Condition, Intervention | None],
) -> None:
    before = {name: p.detach().clone() for name, p in there.model.named_parameters()}
    edit = edits["ablation"]
    assert edit is not None
    hooked = refusal_metrics(there, sets["harmful_val"], tokens, around=under(there, edit))
    with orthogonalized(there.model, measure_anatomy(there.model), edit.vector):
        edited = refusal_metrics(there, sets["harmful_val"], tokens)
    same(hooked, edited)
    for name, parameter in there.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_half_precision_refuses_where_float32_does(
    here: ChatModel, half: ChatModel, sets: dict[str, list[Prompt]], tokens: tuple[int, ...]
) -> None:
    own, other = (refusal_metrics(c, sets["harmful_val"], tokens) > 0 for c in (here, half))
    assert (own == other).float().mean() >= 0.95


def test_a_whole_run(device: str, tmp_path: Path) -> None:
    options = RunOptions(
        model=SOURCE, device=device, dtype="float32", n_train=24, n_val=8, n_test=8, random_suffix=0
    )
    summary = run(options, tmp_path / "run")
    assert summary is not None
    assert summary.refusal["harmful"]["ablation"].rate == 0.0
    assert summary.refusal["harmless"]["addition"].rate == 1.0
