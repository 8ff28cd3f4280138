"""Which system prompts are tried, and by whom the answers are judged."""

from pathlib import Path
from typing import Annotated

from refusalscope.errors import InputError
from refusalscope.models.system_prompts import SYSTEM_PROMPTS, SystemPrompt, read_system_prompts
from refusalscope.pipeline.evaluation_options import BESIDE_RULES, JudgeOptions
from refusalscope.results.flags import Flag, NestedFlags
from refusalscope.results.record import Record


class SystemPromptOptions(Record):
    """What `evaluate system-prompts` is asked to do."""

    names: Annotated[
        tuple[str, ...],
        Flag(
            "A prompt by name; repeat for several. All known ones if none is given.", word="prompt"
        ),
    ] = ()
    file: Annotated[str | None, Flag("JSON file of names and system prompts.", word="prompts")] = (
        None
    )
    judges: Annotated[JudgeOptions, NestedFlags(BESIDE_RULES)] = JudgeOptions.model_construct()
    """Judges beside the rules."""


def prompts_of(options: SystemPromptOptions) -> list[SystemPrompt]:
    """The system prompts that are asked for.

    Raises:
        InputError: there is none of a name, or the file is not what it must be.
    """
    unknown = [name for name in options.names if name not in SYSTEM_PROMPTS]
    if unknown:
        raise InputError(
            f"no system prompt is called {unknown[0]!r}; expected one of "
            f"{', '.join(SYSTEM_PROMPTS)}, or your own with --prompts FILE"
        )
    judges = options.judges
    if judges.model is not None and len(judges.judges) != 1:
        raise InputError("--judge-model belongs to one judge; give one --judge with it")
    own = [] if options.file is None else read_system_prompts(Path(options.file))
    named = options.names or (() if own else tuple(SYSTEM_PROMPTS))
    return [*(SYSTEM_PROMPTS[name] for name in named), *own]
