"""Refusal and safety of harmful instructions under several system prompts."""

from refusalscope.measures.system_prompts.record import SystemPromptOptions
from refusalscope.results.measures import Measure, late
from refusalscope.results.system_prompt_records import SystemPromptSweep

MEASURE = Measure(
    name="system-prompts",
    help="Refusal and safety of harmful instructions under several system prompts.",
    options=SystemPromptOptions,
    record=SystemPromptSweep,
    measure=f"{__name__}.measure:measure",
    file="evaluation/system_prompts.json",
    adds=True,
    section=late(f"{__name__}.page:section"),
    lines=late(f"{__name__}.page:lines"),
)
