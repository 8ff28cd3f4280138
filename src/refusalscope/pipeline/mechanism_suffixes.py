"""The parts of the mechanism that follow a suffix: conditions, heads, tokens one by one."""

from collections.abc import Sequence

from refusalscope.errors import AnatomyError
from refusalscope.mechanism.attention_regions import SuffixedPrompt
from refusalscope.mechanism.head_layout import measure_heads
from refusalscope.mechanism.heads import (
    attribute_conditions,
    heads_record,
    region_shares,
    top_heads,
)
from refusalscope.mechanism.knock_out import knock_out
from refusalscope.mechanism.suffix_conditions import (
    CONDITION_NAMES,
    ConditionPrompts,
    GenerationLimits,
    suffix_condition,
)
from refusalscope.mechanism.suffix_tokens import is_read_as, suffix_text
from refusalscope.mechanism.token_projections import project_text
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.complete import generation_options
from refusalscope.pipeline.mechanism_study import Study
from refusalscope.results.files import write_file
from refusalscope.results.mechanism_folder import HEADS, SUFFIX_CONDITIONS, TOKEN_PROJECTIONS
from refusalscope.results.mechanism_maps import TokenProjections
from refusalscope.results.mechanism_records import (
    SuffixConditionName,
    SuffixConditions,
    SuffixFacts,
)


def do_suffixes(study: Study) -> None:
    """Refusal and cosines under the four suffix conditions (Figures 5 and 21)."""
    run = study.run
    options = generation_options(run)
    limits = GenerationLimits(
        max_new_tokens=options.max_new_tokens, stop_at_end_of_turn=options.stop_at_end_of_turn
    )
    found = {}
    total = sum(len(prompts) for prompts in study.conditions.values())
    with run.progress.stage("suffixes", total, unit="completions") as advance:
        for name in CONDITION_NAMES:
            found[name] = suffix_condition(
                run.chat,
                study.conditions[name],
                study.direction.vector,
                kept=study.kept[_set_of(name)],
                limits=limits,
                batch_size=run.options.batch_size,
                progress=advance,
            )
    random = _own_suffixes(study.conditions["harmful_random_suffix"])
    n_prompts = len(random)
    facts = SuffixFacts(
        source=study.suffix_source,
        text=suffix_text(run.chat, study.suffix),
        ids=study.suffix,
        n_tokens=len(study.suffix),
        n_prompts=n_prompts,
        n_read_differently=_n_read_differently(study, [study.suffix] * n_prompts),
    )
    record = SuffixConditions(
        position=study.position,
        layer=study.layer,
        suffix=facts,
        random_read_differently=_n_read_differently(study, random),
        warnings=_suffix_warnings(facts),
        **found,
    )
    write_file(run.folder.path / SUFFIX_CONDITIONS, record.to_json())


def do_heads(study: Study) -> None:
    """Attribution to heads, their attention, and their knock-out (Figure 6)."""
    run = study.run
    batch_size = run.options.batch_size
    conditions: ConditionPrompts = {
        name: [prompts[i] for i in study.kept[_set_of(name)]]
        for name, prompts in study.conditions.items()
    }
    layouts = measure_heads(run.chat.model)
    total = sum(len(prompts) for prompts in conditions.values())
    with run.progress.stage("heads", total, unit="prompts") as advance:
        attributions = attribute_conditions(
            run.chat,
            layouts,
            conditions,
            study.direction.vector,
            batch_size=batch_size,
            progress=advance,
        )
    top = top_heads(attributions, layouts, n=study.options.heads)
    try:
        shares = region_shares(run.chat, top, conditions, batch_size=batch_size)
    except AnatomyError as error:
        shares = str(error)
    knocked_out = knock_out(
        run.chat,
        layouts,
        top,
        [each.prompt for each in conditions["harmful"]],
        study.direction.vector,
        refusal_tokens=run.refusal_tokens,
        n_draws=study.options.draws,
        seed=run.options.seed,
        batch_size=batch_size,
    )
    record = heads_record(layouts, attributions, top, shares=shares, knocked_out=knocked_out)
    write_file(run.folder.path / HEADS, record.to_json())


def do_projections(study: Study) -> None:
    """The token view: a harmful prompt, plain and with the suffix, a harmless one, given ones."""
    run, direction = study.run, study.direction.vector
    first = {name: study.kept[name][0] for name in ("harmful", "harmless")}
    shown: list[tuple[str, bool | None, Prompt]] = [
        ("harmful", True, study.conditions["harmful"][first["harmful"]].prompt),
        (
            "harmful with the suffix",
            True,
            study.conditions["harmful_adversarial_suffix"][first["harmful"]].prompt,
        ),
        ("harmless", False, study.conditions["harmless"][first["harmless"]].prompt),
    ]
    given = run.chat.encode(list(study.options.texts))
    shown += [(f"given {i}", None, prompt) for i, prompt in enumerate(given, 1)]
    with run.progress.stage("tokens", len(shown), unit="texts") as advance:
        texts = []
        for label, is_harmful, prompt in shown:
            texts.append(
                project_text(run.chat, prompt, direction, label=label, is_harmful=is_harmful)
            )
            advance(1)
    record = TokenProjections(texts=tuple(texts))
    write_file(run.folder.path / TOKEN_PROJECTIONS, record.to_json())


def _set_of(condition: SuffixConditionName) -> str:
    return "harmless" if condition == "harmless" else "harmful"


def _own_suffixes(prompts: Sequence[SuffixedPrompt]) -> list[tuple[int, ...]]:
    ends = [len(each.prompt.ids) - each.prompt.n_post for each in prompts]
    return [
        each.prompt.ids[end - each.n_suffix : end] for each, end in zip(prompts, ends, strict=True)
    ]


def _n_read_differently(study: Study, suffixes: Sequence[tuple[int, ...]]) -> int:
    chat, texts = study.run.chat, study.instructions("harmful")
    prompts = study.run.prompts("harmful")
    return sum(
        not is_read_as(chat, text, prompt, ids)
        for text, prompt, ids in zip(texts, prompts, suffixes, strict=True)
    )


def _suffix_warnings(facts: SuffixFacts) -> tuple[str, ...]:
    if not facts.n_read_differently:
        return ()
    return (
        f"typed after the instruction, the suffix gives other tokens in {facts.n_read_differently} "
        f"of {facts.n_prompts} prompts; here its own {facts.n_tokens} tokens stand in all of them",
    )
