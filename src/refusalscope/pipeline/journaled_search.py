"""A search for a suffix, step by step in a journal, so that a cut search loses one step."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from refusalscope.mechanism.search_prompts import search_prompts
from refusalscope.mechanism.suffix_objective import suffix_objective
from refusalscope.mechanism.suffix_search import SearchOptions, search_suffix
from refusalscope.mechanism.suffix_tokens import stable_after, suffix_text
from refusalscope.models.tokens import decode, ordinary_tokens
from refusalscope.pipeline.context import RunContext
from refusalscope.results.files import output_error
from refusalscope.results.mechanism_records import SearchStep, SuffixSearch

SEARCH_JOURNAL = ".search-"
"""What the names of such journals begin with."""
_CPU_TOKENS = 4096
_ACCELERATOR_TOKENS = 65536


def journaled_search(
    run: RunContext,
    direction: Float[Tensor, " d_model"],
    kept: Sequence[int],
    options: SearchOptions,
    *,
    n_prompts: int,
    journal: Path,
) -> SuffixSearch:
    """Search on harmful training prompts that are refused; what the journal has is not done again.

    Args:
        direction: Whose ablation says which answer is wanted; see `search_prompts`.
        kept: The harmful training prompts that are refused.
        n_prompts: How many of them it is sought on, at most.

    Raises:
        NoSearchError: ablation changes the answer to none of them, or no random suffix of that
            length comes back as the same tokens.
    """
    texts = [run.sets["harmful_train"].instructions[i].text for i in kept]
    prompts = run.chat.encode(texts)
    found = search_prompts(
        run.chat,
        prompts,
        direction,
        run.refusal_tokens,
        n=n_prompts,
        batch_size=run.options.batch_size,
    )
    objective = suffix_objective(
        run.chat,
        [prompts[i] for i in found.indices],
        found.targets,
        tokens_per_batch=_CPU_TOKENS if run.chat.device.type == "cpu" else _ACCELERATOR_TOKENS,
    )
    steps = _read(journal)
    with run.progress.stage("search", options.steps + 1, unit="steps") as advance:
        advance(len(steps))
        for step in search_suffix(
            objective,
            vocabulary=ordinary_tokens(run.chat.tokenizer),
            is_stable=stable_after(run.chat, [texts[i] for i in found.indices]),
            options=options,
            done=steps,
        ):
            _append(journal, step)
            steps.append(step)
            advance(1)
    return SuffixSearch(
        text=suffix_text(run.chat, steps[-1].ids),
        ids=steps[-1].ids,
        n_prompts=len(found.indices),
        targets=tuple(decode(run.chat.tokenizer, [t], skip_special=False) for t in found.targets),
        n_tokens=options.n_tokens,
        candidates=options.candidates,
        top_k=options.top_k,
        enough=options.enough,
        seed=options.seed,
        steps=tuple(steps),
    )


def remove_search_journals(folder: Path) -> None:
    """Delete a folder's search journals, once the search stands in its own file."""
    for journal in folder.glob(f"{SEARCH_JOURNAL}*"):
        journal.unlink(missing_ok=True)


def _read(journal: Path) -> list[SearchStep]:
    """The whole steps of a journal, in order from 0; what follows them is cut off the file."""
    if not journal.is_file():
        return []
    steps: list[SearchStep] = []
    whole = 0
    for line in journal.read_bytes().split(b"\n")[:-1]:
        try:
            step = SearchStep.model_validate_json(line)
        except ValidationError:
            break
        if step.step != len(steps):
            break
        steps.append(step)
        whole += len(line) + 1
    os.truncate(journal, whole)
    return steps


def _append(journal: Path, step: SearchStep) -> None:
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("ab") as file:
            file.write(step.to_line().encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise output_error(journal, error) from error
