"""The search: its steps, that it goes on as if never cut, and that it is good."""

import random
from itertools import pairwise

import pytest
import torch
from jaxtyping import Float
from mechanism_organism import Organism
from torch import Tensor

from refusalscope.errors import InputError
from refusalscope.mechanism.search_prompts import search_prompts
from refusalscope.mechanism.suffix_objective import SuffixObjective, suffix_objective
from refusalscope.mechanism.suffix_search import SearchOptions, random_suffix, search_suffix
from refusalscope.mechanism.suffix_tokens import is_read_as, stable_after
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.models.tokens import ordinary_tokens
from refusalscope.results.mechanism_records import SearchStep

OPTIONS = SearchOptions(n_tokens=4, steps=6, candidates=8, top_k=8, enough=0.0, seed=3)


@pytest.fixture
def objective(chat: ChatModel, prompts: list[Prompt]) -> SuffixObjective:
    return suffix_objective(chat, prompts[:2], (40, 41))


def search(
    chat: ChatModel,
    objective: SuffixObjective,
    options: SearchOptions = OPTIONS,
    *,
    done: tuple[SearchStep, ...] = (),
) -> list[SearchStep]:
    return list(
        search_suffix(
            objective,
            vocabulary=ordinary_tokens(chat.tokenizer),
            is_stable=lambda _ids: True,
            options=options,
            done=done,
        )
    )


def test_a_step_never_raises_the_loss_and_changes_one_token(
    chat: ChatModel, objective: SuffixObjective
):
    steps = search(chat, objective)
    assert [s.step for s in steps] == list(range(7))
    for before, after in pairwise(steps):
        changed = sum(a != b for a, b in zip(before.ids, after.ids, strict=True))
        assert (after.loss < before.loss and changed == 1) or after.ids == before.ids
        assert after.n_tried == 8
    assert steps[-1].loss < steps[0].loss
    assert steps[-1].loss == pytest.approx(
        objective.losses(torch.tensor([steps[-1].ids])).item(), abs=1e-6
    )


def test_the_same_seed_gives_the_same_search_and_another_another(
    chat: ChatModel, objective: SuffixObjective
):
    assert search(chat, objective) == search(chat, objective)
    other = SearchOptions(n_tokens=4, steps=6, candidates=8, top_k=8, enough=0.0, seed=4)
    assert search(chat, objective, other)[0] != search(chat, objective)[0]


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_search_that_goes_on_ends_as_one_that_was_never_cut(
    chat: ChatModel, objective: SuffixObjective, cut: int
):
    whole = search(chat, objective)
    assert [*whole[:cut], *search(chat, objective, done=tuple(whole[:cut]))] == whole


def test_it_ends_where_the_loss_is_low_enough(chat: ChatModel, objective: SuffixObjective):
    first = search(chat, objective)[0]
    at_once = SearchOptions(n_tokens=4, steps=6, candidates=8, enough=first.loss, seed=3)
    assert search(chat, objective, at_once) == [first]


def test_only_suffixes_are_tried_that_are_read_as_their_own_tokens(
    chat: ChatModel, objective: SuffixObjective
):
    tried: list[tuple[int, ...]] = []

    def is_stable(ids: tuple[int, ...]) -> bool:
        tried.append(ids)
        return sum(ids) % 2 == 0

    steps = search_suffix(
        objective,
        vocabulary=ordinary_tokens(chat.tokenizer),
        is_stable=is_stable,
        options=OPTIONS,
    )
    assert all(sum(step.ids) % 2 == 0 for step in steps)
    assert any(sum(ids) % 2 for ids in tried)


def test_a_vocabulary_without_stable_suffixes_is_refused():
    with pytest.raises(InputError, match=r"no random suffix of 3 tokens .* ask for fewer"):
        random_suffix([1, 2], 3, is_stable=lambda ids: len(ids) < 3, rng=random.Random(0))


def test_search_prompts_are_those_that_ablation_makes_answer(organism: Organism):
    run = organism.run
    prompts = run.prompts("harmful_train")
    found = search_prompts(run.chat, prompts, organism.vector, run.refusal_tokens, n=4)
    assert len(found.indices) == 4
    assert not set(found.targets) & set(run.refusal_tokens)


def test_an_answer_that_begins_with_a_refusal_token_is_not_sought(
    chat: ChatModel, prompts: list[Prompt], direction: Float[Tensor, " d_model"]
):
    found = search_prompts(chat, prompts, direction, (260,), n=5)
    assert found.targets
    with pytest.raises(InputError, match="none of 5"):
        search_prompts(chat, prompts, direction, tuple(set(found.targets)), n=5)


def test_without_an_answer_to_seek_the_error_says_so(organism: Organism):
    run = organism.run
    prompts = run.prompts("harmless")[:4]
    with pytest.raises(InputError, match=r"none of 4 .* give one with --suffix"):
        search_prompts(run.chat, prompts, organism.vector, run.refusal_tokens, n=4)


def plain_search(
    objective: SuffixObjective, start: SearchStep, vocabulary: list[int], *, steps: int, seed: int
) -> list[float]:
    """The plain loop: one candidate a step, any place, any of the best tokens; kept if better."""
    rng = random.Random(seed)
    ids, loss = torch.tensor(start.ids), start.loss
    allowed = torch.tensor(vocabulary)
    losses = [loss]
    for _ in range(steps):
        best = allowed[(-objective.gradient(ids)[:, allowed]).topk(32, dim=1).indices]
        candidate = ids.clone()
        place = rng.randrange(len(ids))
        candidate[place] = best[place, rng.randrange(32)]
        found = objective.losses(candidate[None]).item()
        if found < loss:
            ids, loss = candidate, found
        losses.append(loss)
    return losses


@pytest.mark.slow
def test_on_the_organism_every_step_is_at_least_as_good_as_a_plain_loop(organism: Organism):
    run = organism.run
    texts = [i.text for i in run.sets["harmful_train"].instructions]
    prompts = run.prompts("harmful_train")
    on = search_prompts(run.chat, prompts, organism.vector, run.refusal_tokens, n=2)
    objective = suffix_objective(run.chat, [prompts[i] for i in on.indices], on.targets)
    is_stable = stable_after(run.chat, [texts[i] for i in on.indices])
    vocabulary = ordinary_tokens(run.chat.tokenizer)
    n_steps, ours, plain = 6, [], []
    for seed in range(3):
        options = SearchOptions(
            n_tokens=10, steps=n_steps, candidates=24, top_k=32, enough=0.0, seed=seed
        )
        steps = list(
            search_suffix(objective, vocabulary=vocabulary, is_stable=is_stable, options=options)
        )
        ours.append([s.loss for s in steps])
        plain.append(plain_search(objective, steps[0], vocabulary, steps=n_steps, seed=seed))
        assert all(is_read_as(run.chat, texts[i], prompts[i], steps[-1].ids) for i in on.indices)
    own, other = torch.tensor(ours).mean(0), torch.tensor(plain).mean(0)
    assert bool((own <= other).all())
    assert own[-1] < other[-1] - 0.1
