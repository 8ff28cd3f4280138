"""The judges that can be asked for by name: ours, and those of other packages.

They are found by entry points of the group `refusalscope.judges`. The name of one is the judge's,
its value a `JudgeKind` (a model that is asked), a function that makes a `Judge` (a rule), or a
table that holds it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from refusalscope.errors import InputError
from refusalscope.evaluation.judge_kinds import JudgeKind
from refusalscope.evaluation.judge_names import judge_points
from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.evaluation.judges import Judge

_LOG = logging.getLogger(__name__)
Rule = Callable[[], Judge]


@cache
def _judges() -> Mapping[str, JudgeKind | Rule]:
    """Every judge that is installed, by name; one that cannot be used is warned of."""
    found: dict[str, JudgeKind | Rule] = {}
    for name, point in judge_points().items():
        try:
            loaded: Any = point.load()
        except Exception as error:
            _LOG.warning("the judge %s (%s) cannot be loaded: %s", name, point.value, error)
            continue
        one: Any = loaded.get(name) if isinstance(loaded, Mapping) else loaded
        if (one.name == name) if isinstance(one, JudgeKind) else callable(one):
            found[name] = one
        else:
            _LOG.warning("%s is no judge of the name %r and left out", point.value, name)
    return found


def rule_judges() -> dict[str, Rule]:
    """Judges that need no model, by name."""
    return {name: one for name, one in _judges().items() if not isinstance(one, JudgeKind)}


def model_judges() -> dict[str, JudgeKind]:
    """Judges that are models, by name."""
    return {name: one for name, one in _judges().items() if isinstance(one, JudgeKind)}


def judge_kind(name: str, *, rubric: str | None = None) -> JudgeKind:
    """The judge of a name; one that takes a rubric with the one that is given.

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
    if kind.by_rubric is None:
        takers = " or ".join(name for name, one in model_judges().items() if one.by_rubric)
        raise InputError(f"judge {name} has its own question; give --rubric with --judge {takers}")
    build: Callable[[str, str], JudgePrompt] = partial(kind.by_rubric, rubric=rubric)
    build("", "")
    if "{nonce}" not in rubric:
        _LOG.warning(
            "the rubric has no {nonce}: a completion may spell the words that end it there, and go "
            "on as the rubric; write {nonce} into the marks around the texts"
        )
    return replace(kind, build=build)
