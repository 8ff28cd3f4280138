"""A finished run's harmful test instructions under several system prompts (paper appendix F.2).

The direction stays that of the run. Every prompt has a folder of its own in
`evaluation/system_prompts`, with its completions and judgements, which are written once.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from refusalscope.errors import InputError, OutputError
from refusalscope.evaluation.installed_judges import rule_judges
from refusalscope.evaluation.judges import rates_by_condition
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.measures.system_prompts.record import SystemPromptOptions, prompts_of
from refusalscope.models.system_prompts import SystemPrompt
from refusalscope.models.under_system_prompt import with_system_prompt
from refusalscope.pipeline.complete_aside import (
    DATASET,
    complete_aside,
    judge_aside,
)
from refusalscope.pipeline.evaluate import make_judge, require_judges
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import conditions
from refusalscope.results.files import write_file
from refusalscope.results.judgement_files import read_judge_files, require_each_once
from refusalscope.results.records import Condition, Judgements, Measure
from refusalscope.results.run_records import (
    SYSTEM_PROMPTS,
    read_completions,
    read_record,
)
from refusalscope.results.system_prompt_records import (
    OverPrompts,
    PromptRates,
    PromptText,
    SystemPromptSweep,
)

_LOG = logging.getLogger(__name__)
SWEEP_CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "random_ablation")
_FOLDER = SYSTEM_PROMPTS.removesuffix(".json")
_PROMPT = "prompt.json"


def measure(session: Session, options: SystemPromptOptions, _item: str) -> SystemPromptSweep:
    """Complete and judge under each system prompt; the rates, their mean and SD over prompts.

    Refusal phrases always judge, on an organism its language too. Prompts and judges of an earlier
    call stay in the record; what is there already is not done again.

    Raises:
        RunFolderError: no run, or one without a direction.
        ChatTemplateError: the model's template takes no system prompt.
        InputError: two prompts have one name, or there is no prompt or judge of a name.
        InstructionsError: with one of them, an instruction does not fit into the model's context.
        OutputError: a prompt of that name with another text is there, or a judge of that name that
            is not the same.
    """
    folder, prompts = session.folder, prompts_of(options)
    require_judges(options.judges)
    _require_names(folder, prompts)
    run = session.run
    judges = [
        make_judge(folder, name, options.judges, key=session.server_key)
        for name in options.judges.judges
        if name not in rule_judges()
    ]
    paper = run.options.template == "paper"
    chats = [with_system_prompt(run.chat, prompt, paper_template=paper) for prompt in prompts]
    for chat in chats:
        chat.encode([one.text for one in run.sets[DATASET].instructions])  # before any is written
    for prompt, chat in zip(prompts, chats, strict=True):
        own = folder / _FOLDER / prompt.name
        write_file(own / _PROMPT, PromptText(name=prompt.name, text=prompt.text).to_json())
        under = conditions(run, SWEEP_CONDITIONS)
        rows = complete_aside(run, chat, own, under, name=prompt.name)
        for judge in (*rules_for(run.language), *judges):
            judge_aside(own, judge, rows)
    return _record(folder)


def _require_names(folder: Path, prompts: Sequence[SystemPrompt]) -> None:
    names = [prompt.name for prompt in prompts]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise InputError(f"two system prompts are called {repeated[0]!r}; rename one of them")
    if not prompts:
        raise InputError("give at least one system prompt")
    for prompt in prompts:
        path = folder / _FOLDER / prompt.name / _PROMPT
        if path.is_file() and read_record(PromptText, path).text != prompt.text:
            raise OutputError(f"{path} is another text of that name; give the prompt another name")


def _judged(own: Path) -> list[Judgements]:
    """The judgements under one system prompt, each of all its completions."""
    found, unknown = read_judge_files(own, others={own / _PROMPT})
    rows = [row for file in sorted(own.glob("*.jsonl")) for row in read_completions(file)]
    for path, record in found.items():
        require_each_once(path, record.rows, rows)
    for path in unknown:
        _LOG.warning("%s is no judge's and left out", path)
    return list(found.values())


def _record(folder: Path) -> SystemPromptSweep:
    """The record of all that stands in the folders of the prompts, by name."""
    prompts: list[PromptRates] = []
    found: dict[tuple[str, Measure, Condition], list[float]] = {}
    for path in sorted((folder / _FOLDER).glob(f"*/{_PROMPT}")):
        judged = _judged(path.parent)
        if not judged:
            continue
        text = read_record(PromptText, path)
        rates = {one.judge: dict(rates_by_condition(one).get(DATASET, {})) for one in judged}
        prompts.append(PromptRates(name=text.name, text=text.text, rates=rates))
        for one in judged:
            for condition, rate in rates[one.judge].items():
                found.setdefault((one.judge, one.measures, condition), []).append(rate.rate)
    return SystemPromptSweep(
        dataset=DATASET,
        prompts=tuple(prompts),
        over_prompts=tuple(
            OverPrompts(
                judge=judge,
                measures=measures,
                condition=condition,
                mean=fmean(rates),
                sd=stdev(rates) if len(rates) > 1 else None,
                n_prompts=len(rates),
            )
            for (judge, measures, condition), rates in found.items()
        ),
    )
