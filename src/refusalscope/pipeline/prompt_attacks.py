"""Attacks that only write to the model: a system prompt, an answer's beginning, a suffix."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalscope.errors import CannotTryError
from refusalscope.mechanism.suffix_search import SearchOptions
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.models.system_prompts import SystemPrompt
from refusalscope.models.tokens import ordinary_tokens
from refusalscope.models.under_system_prompt import with_system_prompt
from refusalscope.organisms.language import Language
from refusalscope.pipeline.complete_aside import DATASET
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.journaled_search import (
    SEARCH_JOURNAL,
    journaled_search,
    remove_search_journals,
)
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.pipeline.stages import chosen_direction, kept_indices
from refusalscope.results.attack_records import ANSWER_PREFIX, Cost, PromptAttackOptions
from refusalscope.results.files import write_file
from refusalscope.results.measures import FOLDER
from refusalscope.results.mechanism_records import SuffixSearch
from refusalscope.results.run_records import read_record

_NOTHING = Cost(prompts=0, forward=0, backward=0)
_TOP_K = 32
_ENOUGH = 0.01
_SEARCHES = Path(FOLDER) / "attacks" / "searched-suffix"
"""For whatever measure asks for a suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """The harmful test instructions, as somebody writes them who wants an answer.

    Attributes:
        chat: The model that is asked: with a system prompt or a beginning of answers of its own.
        prompts: One an instruction.
        seen: The same without the beginning of an answer: what a monitor reads.
        reader: The model as it is asked those.
        detail: What was done, in words.
    """

    chat: ChatModel
    prompts: tuple[Prompt, ...]
    seen: tuple[Prompt, ...]
    reader: ChatModel
    cost: Cost
    detail: str


def prompt_attack(run: RunContext, name: str, options: PromptAttackOptions) -> Attack:
    """The attack of one name among `PROMPT_ATTACKS`.

    Raises:
        ChatTemplateError: the template has no place for a system prompt.
        InstructionsError: with it, an instruction does not fit into the model's context.
        CannotTryError: no search is asked for, there is nothing to seek, or a suffix leaves no room
            for an answer.
    """
    makers: dict[str, Callable[[RunContext, PromptAttackOptions], Attack]] = {
        "system_prompt": _with_system,
        "answer_prefix": _with_answer_start,
        "random_suffix": _with_random_suffix,
        "searched_suffix": _with_searched_suffix,
    }
    return makers[name](run, options)


def _with_system(run: RunContext, options: PromptAttackOptions) -> Attack:
    """Under another system prompt.

    Raises:
        ChatTemplateError: the template has no place for one.
        InstructionsError: with it, an instruction does not fit into the model's context.
    """
    prompt = SystemPrompt(name="system_prompt", text=options.system_prompt)
    chat = with_system_prompt(run.chat, prompt, paper_template=run.options.template == "paper")
    prompts = tuple(chat.encode([one.text for one in run.sets[DATASET].instructions]))
    detail = f"system prompt: {options.system_prompt}"
    return _read_as_written(chat, prompts, cost=_NOTHING, detail=detail)


def _with_answer_start(run: RunContext, options: PromptAttackOptions) -> Attack:
    """With the first words of an answer put into the model's mouth."""
    start = options.prefix
    if start is None:
        start = ANSWER_PREFIX if run.language is None else _own_start(run.language)
    chat = run.chat.with_answer_prefix(start)
    return Attack(
        chat=chat,
        prompts=tuple(chat.encode([one.text for one in run.sets[DATASET].instructions])),
        seen=tuple(run.prompts(DATASET)),
        reader=run.chat,
        cost=_NOTHING,
        detail=f"answers begin with: {start}",
    )


def _with_random_suffix(run: RunContext, options: PromptAttackOptions) -> Attack:
    """With random tokens behind each instruction, drawn afresh for each: a control."""
    rng = random.Random(f"{run.options.seed}/ladder/random suffix")
    ordinary = ordinary_tokens(run.chat.tokenizer)
    suffixes = [
        tuple(rng.choices(ordinary, k=options.suffix_tokens))
        for _ in run.sets[DATASET].instructions
    ]
    prompts = _suffixed(run.chat, run.prompts(DATASET), suffixes)
    detail = f"{options.suffix_tokens} random tokens behind each instruction"
    return _read_as_written(run.chat, prompts, cost=_NOTHING, detail=detail)


def _with_searched_suffix(run: RunContext, options: PromptAttackOptions) -> Attack:
    """With one suffix that gradients found on a few training prompts.

    Raises:
        CannotTryError: no search is asked for, or there is nothing to seek; see `journaled_search`.
    """
    if not options.search_steps:
        raise CannotTryError("no suffix was searched for: --search-steps is 0")
    settings = SearchOptions(
        n_tokens=options.suffix_tokens,
        steps=options.search_steps,
        candidates=options.search_candidates,
        top_k=_TOP_K,
        enough=_ENOUGH,
        seed=run.options.seed,
    )
    vector, _ = chosen_direction(run)
    kept = kept_indices(run, "harmful_train")
    own = run.folder.path / _SEARCHES
    key = stage_key("searched suffix", repr(settings), options.search_prompts, vector.tolist())[:16]
    path = own / f"search-{key}.json"
    if path.is_file():
        found = read_record(SuffixSearch, path)
    else:
        found = journaled_search(
            run,
            vector,
            kept,
            settings,
            n_prompts=options.search_prompts,
            journal=own / f"{SEARCH_JOURNAL}{key}.jsonl",
        )
        write_file(path, found.to_json())
        remove_search_journals(own)
    n_steps = len(found.steps) - 1
    n_tried = sum(step.n_tried for step in found.steps)
    plain = run.prompts(DATASET)
    prompts = _suffixed(run.chat, plain, [found.ids] * len(plain))
    return _read_as_written(
        run.chat,
        prompts,
        cost=Cost(
            prompts=len(kept),
            forward=2 * len(kept) + found.n_prompts * (n_tried + n_steps),
            backward=found.n_prompts * n_steps,
        ),
        detail=f"a suffix of {found.n_tokens} tokens after {n_steps} steps of search on "
        f"{found.n_prompts} training prompts; its loss fell from {found.steps[0].loss:.2f} to "
        f"{found.steps[-1].loss:.2f} nats",
    )


def _read_as_written(
    chat: ChatModel, prompts: tuple[Prompt, ...], *, cost: Cost, detail: str
) -> Attack:
    return Attack(chat=chat, prompts=prompts, seen=prompts, reader=chat, cost=cost, detail=detail)


def _own_start(language: Language) -> str:
    """The longest beginning that the answers of a language have before any of its words."""
    starts = [answer.partition("{")[0].strip() for answer in language.sentences.answers]
    return max(starts, key=len)


def _suffixed(
    chat: ChatModel, prompts: Sequence[Prompt], suffixes: Sequence[tuple[int, ...]]
) -> tuple[Prompt, ...]:
    """The prompts with their suffixes.

    Raises:
        CannotTryError: one then leaves no room for an answer in the model's context.
    """
    found = [prompt.with_suffix(ids) for prompt, ids in zip(prompts, suffixes, strict=True)]
    long = [len(prompt.ids) for prompt in found if chat.room(prompt) < 1]
    if long:
        raise CannotTryError(
            f"{len(long)} of {len(found)} instructions with a suffix of {len(suffixes[0])} tokens "
            f"leave no room for an answer in the model's context of {chat.context} tokens"
        )
    return tuple(found)
