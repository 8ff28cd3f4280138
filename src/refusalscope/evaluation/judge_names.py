"""The judges that can be asked for by name: ours, and those of other packages.

They are found by entry points of the group `refusalscope.judges`. The value of one is a `JudgeKind`
(a model that is asked), a function that makes a `Judge` (a rule), or several of these by name.
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from refusalscope.errors import InputError
from refusalscope.evaluation.grader_prompts import CHAT_RUBRIC, chat_rubric_prompt
from refusalscope.evaluation.judge_kinds import JudgeKind
from refusalscope.evaluation.judges import Judge
from refusalscope.results.file_names import file_name

_LOG = logging.getLogger(__name__)
GROUP = "refusalscope.judges"
_OURS = "refusalscope."
Rule = Callable[[], Judge]


@cache
def _judges() -> Mapping[str, JudgeKind | Rule]:
    """Every judge that is installed, by name, ours first; one that cannot be used is warned of."""
    found: dict[str, JudgeKind | Rule] = {}
    for point in sorted(entry_points(group=GROUP), key=_order):
        for name, one in _loaded(point).items():
            if name in found:
                _LOG.warning("two judges are called %r; that of %s is left out", name, point.value)
            elif not _is_judge(name, one):
                _LOG.warning("%s is no judge of the name %r and left out", point.value, name)
            else:
                found[name] = one
    return found


def _order(point: EntryPoint) -> tuple[bool, bool, str]:
    return not point.value.startswith(_OURS), point.name != "rules", point.value


def _loaded(point: EntryPoint) -> Mapping[str, Any]:
    try:
        found = point.load()
    except Exception as error:
        _LOG.warning("the judge %s (%s) cannot be loaded: %s", point.name, point.value, error)
        return {}
    return found if isinstance(found, Mapping) else {point.name: found}


def _is_judge(name: str, one: object) -> bool:
    try:
        file_name(name, what="the name of a judge")
    except InputError:
        return False
    return one.name == name if isinstance(one, JudgeKind) else callable(one)


def rule_judges() -> dict[str, Rule]:
    """Judges that need no model, by name."""
    return {name: one for name, one in _judges().items() if not isinstance(one, JudgeKind)}


def model_judges() -> dict[str, JudgeKind]:
    """Judges that are models, by name."""
    return {name: one for name, one in _judges().items() if isinstance(one, JudgeKind)}


def judge_names() -> tuple[str, ...]:
    """Every judge that can be asked for by name."""
    return tuple(_judges())


def judge_kind(name: str, *, rubric: str | None = None) -> JudgeKind:
    """The judge of a name; `chat` with a rubric of one's own.

    Raises:
        InputError: no judge of that name, or a rubric for a judge that has its own.
    """
    kind = model_judges().get(name)
    if kind is None:
        raise InputError(
            f"no judge is called {name!r}; expected one of {', '.join(model_judges())}"
        )
    if rubric is None:
        return kind
    if kind.name != "chat":
        raise InputError(f"judge {name} has its own rubric; give --rubric with --judge chat only")
    chat_rubric_prompt("", "", rubric=rubric)
    if "{nonce}" not in rubric:
        _LOG.warning(
            "the rubric has no {nonce}: a completion may spell the words that end it there, and go "
            "on as the rubric; write {nonce} into the marks around the texts"
        )
    return JudgeKind(
        name=kind.name,
        measures=kind.measures,
        model=kind.model,
        build=partial(chat_rubric_prompt, rubric=rubric or CHAT_RUBRIC),
        read=kind.read,
        max_new_tokens=kind.max_new_tokens,
    )
