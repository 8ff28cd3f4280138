"""A device that takes one prompt at a time: every measurement ends as on a large one."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest
import torch
from completed import completed
from tiny_models import tiny_chat
from torch import Tensor

from refusalscope.activations.moments import resid_pre_moments
from refusalscope.activations.next_token import mean_next_token_probabilities, refusal_metrics
from refusalscope.activations.streams import streams_at
from refusalscope.data.instruction import Instruction
from refusalscope.engine.rows import engine_of
from refusalscope.errors import InputError
from refusalscope.evaluation.answer_drift import drift
from refusalscope.evaluation.answer_losses import answer_losses
from refusalscope.evaluation.loss import text_loss
from refusalscope.evaluation.projections import WrittenAnswer, answer_projections
from refusalscope.generate.completions import CompletionJob, GenerationOptions
from refusalscope.interventions.intervention import Intervention
from refusalscope.mechanism.attention_regions import SuffixedPrompt, attention_by_region
from refusalscope.mechanism.attribution import attribute
from refusalscope.mechanism.head_layout import measure_heads
from refusalscope.mechanism.suffix_objective import suffix_objective
from refusalscope.mechanism.where_it_acts import where_it_acts
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import observe_inputs
from refusalscope.models.scored_text import ScoredText, scored_prompt
from refusalscope.results.records import SelectionLimits
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.search import score_all

WORDS = ["open the door", "paint it", "why is the sky so blue today?", "go", "count to seven now."]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


def direction(chat: ChatModel) -> Tensor:
    return torch.randn(chat.d_model, generator=torch.Generator().manual_seed(5))


def ablation(chat: ChatModel) -> Intervention:
    return Intervention(operator="ablate", vector=direction(chat))


def texts(chat: ChatModel) -> list[ScoredText]:
    return [scored_prompt(prompt, (40, 41, 42, 43)) for prompt in chat.encode(WORDS)]


@contextmanager
def at_most(chat: ChatModel, n_tokens: int) -> Generator[list[int]]:
    """No layer takes more tokens at once; yields how many were too many, each time."""
    failed: list[int] = []

    def count(hidden: Tensor) -> None:
        own = hidden.shape[0] * hidden.shape[1]
        if own > n_tokens:
            failed.append(own)
            raise torch.OutOfMemoryError(f"{own} tokens and no room")

    with observe_inputs([(layer, count) for layer in chat.layers]):
        yield failed


def means(chat: ChatModel) -> Tensor:
    return resid_pre_moments(chat, chat.encode(WORDS)).means


def next_token(chat: ChatModel) -> Tensor:
    return mean_next_token_probabilities(chat, chat.encode(WORDS))


def metrics(chat: ChatModel) -> Tensor:
    return refusal_metrics(chat, chat.encode(WORDS), (40,))


def streams(chat: ChatModel) -> Tensor:
    prompts = chat.encode(WORDS)
    found = torch.empty(len(prompts), chat.n_layers, chat.d_model, dtype=torch.float64)
    for rows, own in streams_at(chat, prompts):
        found[rows] = own.transpose(0, 1)
    return found


def heads(chat: ChatModel) -> Tensor:
    found = attribute(chat, measure_heads(chat.model), chat.encode(WORDS), direction(chat))
    return found.contributions


def attention(chat: ChatModel) -> Tensor:
    layouts = measure_heads(chat.model).layouts
    prompts = [SuffixedPrompt(prompt=p) for p in chat.encode(WORDS * 2)]
    return attention_by_region(chat, [(layouts[0], 0), (layouts[1], 1)], prompts)


def acts(chat: ChatModel) -> Tensor:
    prompts = chat.encode(WORDS)
    found = where_it_acts(
        chat, direction(chat), harmful=prompts, harmless=prompts, refusal_tokens=(40,)
    )
    return torch.tensor([*found.one_layer, *found.from_layer, *found.one_position.values()])


def projections(chat: ChatModel) -> Tensor:
    answers = [
        WrittenAnswer(prompt=prompt, tokens=(40, 41, 42), intervention=edit)
        for prompt, edit in zip(chat.encode(WORDS), [None, ablation(chat)] * 3, strict=False)
    ]
    return torch.stack(answer_projections(chat, answers, direction(chat), layers=[0, 1]))


def drifts(chat: ChatModel) -> Tensor:
    found = drift(chat, texts(chat), interventions={"ablation": ablation(chat)})
    return torch.stack([own.by_token for own in found["ablation"]])


def losses(chat: ChatModel) -> Tensor:
    rows = text_loss(
        chat,
        texts(chat),
        dataset="own",
        interventions={"baseline": None, "ablation": ablation(chat)},
    )
    return torch.tensor([row.loss for row in rows])


def own_losses(chat: ChatModel) -> Tensor:
    return torch.tensor(answer_losses(chat, texts(chat)))


def scores(chat: ChatModel) -> Tensor:
    prompts = chat.encode(WORDS)
    generator = torch.Generator().manual_seed(1)
    shape = (len(chat.positions), chat.n_layers, chat.d_model)
    scorer = ModelScorer(
        chat,
        torch.randn(shape, generator=generator),
        harmful=prompts,
        harmless=list(reversed(prompts)),
        refusal_tokens=(40,),
    )
    candidates = [(position, layer) for position in (-1, -2) for layer in range(chat.n_layers)]
    rows = score_all(candidates, scorer, n_layers=chat.n_layers, limits=SelectionLimits())
    return torch.tensor([[row.bypass, row.induce, row.kl] for row in rows])


def completions(chat: ChatModel) -> Tensor:
    jobs = [
        CompletionJob(
            index=i,
            dataset="own",
            condition="ablation",
            instruction=Instruction(text=word),
            prompt=prompt,
        )
        for i, (word, prompt) in enumerate(zip(WORDS, chat.encode(WORDS), strict=True))
    ]
    batch = completed(
        chat,
        jobs,
        interventions={"ablation": ablation(chat)},
        options=GenerationOptions(max_new_tokens=5),
    )
    return torch.tensor([[*one.text.encode()[:4], one.n_tokens] for one in batch])


def suffixes(chat: ChatModel) -> Tensor:
    found = suffix_objective(chat, chat.encode(WORDS[:2]), (40, 41))
    rows = torch.tensor([[10 + i, 20, 30] for i in range(40)])
    return torch.cat([found.losses(rows), found.gradient(rows[0]).flatten()])


MEASUREMENTS = [
    means,
    next_token,
    metrics,
    streams,
    heads,
    attention,
    acts,
    projections,
    drifts,
    losses,
    own_losses,
    scores,
    completions,
    suffixes,
]


@pytest.mark.parametrize("measure", MEASUREMENTS, ids=lambda f: f.__name__)
def test_what_does_not_fit_is_halved_and_comes_out_the_same(
    measure: Callable[[ChatModel], Tensor], chat: ChatModel
):
    longest = max(len(prompt.ids) for prompt in chat.encode(WORDS)) + 5
    whole = measure(chat)
    with at_most(chat, longest + 2) as failed:
        halved = measure(chat)
    assert failed, "nothing was too large, so nothing was tested"
    torch.testing.assert_close(halved.double(), whole.double(), atol=2e-5, rtol=2e-5)


def test_one_prompt_that_does_not_fit_by_itself_is_said_in_one_line(chat: ChatModel):
    with at_most(chat, 3), pytest.raises(InputError, match="does not fit into memory by itself"):
        list(engine_of(chat).run(chat.encode(WORDS), lambda step: step.logits))
