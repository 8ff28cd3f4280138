"""What became of a run's instructions and will become of its answers, where it is not asked so."""

from refusalscope.pipeline.answer_lengths import answer_tokens
from refusalscope.pipeline.answer_prefix import N_ASKED
from refusalscope.pipeline.context import Study
from refusalscope.pipeline.too_long import limited_answers

TEST_SETS = ("harmful", "harmless")


def study_warnings(study: Study) -> tuple[str, ...]:
    """What became of instructions and will become of answers, where it is not what was asked."""
    return (
        *study.chat.warnings,
        *_prefix_warnings(study),
        # Each said once: several sets come from one file.
        *dict.fromkeys(line for each in study.sets.values() for line in each.warnings),
        *limited_answers(
            study.chat,
            study.sets,
            TEST_SETS,
            max_new_tokens=answer_tokens(study.options, study.organism),
        ),
        *_control_text_warnings(study),
    )


def _prefix_warnings(study: Study) -> tuple[str, ...]:
    """That something was put into the prompts which nobody had named."""
    prefix = study.chat.prompt_format.answer_prefix
    if not prefix or study.options.answer_prefix is not None:
        return ()
    return (
        f"the first {2 * N_ASKED} answers all begin with {prefix!r}: that was put behind the "
        f"template, and refusal is read at the token after it; --answer-prefix '' leaves it out",
    )


def _control_text_warnings(study: Study) -> tuple[str, ...]:
    warnings = []
    for name in study.sets:
        n = sum(prompt.has_control_text for prompt in study.prompts(name))
        if n:
            warnings.append(
                f"{n} instructions of {name} spell a control token of the chat template; it was "
                f"tokenized as ordinary text"
            )
    return tuple(warnings)
