"""The search for a suffix, step by step in a journal, so that a cut search loses one step."""

import os
from pathlib import Path

from pydantic import ValidationError

from refusalscope.mechanism.search_prompts import search_prompts
from refusalscope.mechanism.suffix_objective import suffix_objective
from refusalscope.mechanism.suffix_search import SearchOptions, search_suffix
from refusalscope.mechanism.suffix_tokens import stable_after, suffix_text
from refusalscope.models.prompts import Prompt
from refusalscope.models.tokens import decode
from refusalscope.pipeline.mechanism_study import Study
from refusalscope.pipeline.stages import kept_indices
from refusalscope.results.files import output_error, write_file
from refusalscope.results.mechanism_folder import MECHANISM, SUFFIX_SEARCH
from refusalscope.results.mechanism_records import SearchStep, SuffixSearch

_JOURNAL = ".search-"
_CPU_TOKENS = 4096
_ACCELERATOR_TOKENS = 65536


def do_search(study: Study, key: str) -> None:
    """Search for a suffix on training prompts and write it with its loss curve."""
    run, asked = study.run, study.options
    options = SearchOptions(
        n_tokens=asked.suffix_tokens,
        steps=asked.search_steps,
        candidates=asked.search_candidates,
        top_k=asked.search_top_k,
        enough=asked.search_enough,
        seed=run.options.seed,
    )
    texts, prompts, targets = _on(study)
    objective = suffix_objective(
        run.chat,
        prompts,
        targets,
        tokens_per_batch=_CPU_TOKENS if run.chat.device.type == "cpu" else _ACCELERATOR_TOKENS,
    )
    journal = run.folder.path / MECHANISM / f"{_JOURNAL}{key[:16]}.jsonl"
    steps = _read(journal)
    with run.progress.stage("search", options.steps + 1, unit="steps") as advance:
        advance(len(steps))
        for step in search_suffix(
            objective,
            vocabulary=study.vocabulary,
            is_stable=stable_after(run.chat, texts),
            options=options,
            done=steps,
        ):
            _append(journal, step)
            steps.append(step)
            advance(1)
    record = SuffixSearch(
        text=suffix_text(run.chat, steps[-1].ids),
        ids=steps[-1].ids,
        n_prompts=len(prompts),
        targets=tuple(decode(run.chat.tokenizer, [t], skip_special=False) for t in targets),
        n_tokens=options.n_tokens,
        candidates=options.candidates,
        top_k=options.top_k,
        enough=options.enough,
        seed=options.seed,
        steps=tuple(steps),
    )
    write_file(run.folder.path / SUFFIX_SEARCH, record.to_json())


def remove_search_journals(folder: Path) -> None:
    """Delete a run's search journals, once the search stands in its own file."""
    for journal in (folder / MECHANISM).glob(f"{_JOURNAL}*"):
        journal.unlink(missing_ok=True)


def _on(study: Study) -> tuple[list[str], list[Prompt], tuple[int, ...]]:
    """Texts, prompts and targets of the search: harmful training instructions that are refused."""
    run = study.run
    kept = kept_indices(run, "harmful_train")
    texts, prompts = study.instructions("harmful_train"), run.prompts("harmful_train")
    found = search_prompts(
        run.chat,
        [prompts[i] for i in kept],
        study.direction.vector,
        run.refusal_tokens,
        n=study.options.search_prompts,
        batch_size=run.options.batch_size,
    )
    chosen = [kept[i] for i in found.indices]
    return [texts[i] for i in chosen], [prompts[i] for i in chosen], found.targets


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
