"""The names of the judges that are installed; no judge is loaded, so that help is quick.

They are those of the entry points of the group `refusalscope.judges`; see `installed_judges`.
"""

import logging
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from refusalscope.errors import InputError
from refusalscope.results.file_names import file_name

_LOG = logging.getLogger(__name__)
GROUP = "refusalscope.judges"
_OURS = "refusalscope."
_RULES = "rule_judges:"


@cache
def judge_points() -> dict[str, EntryPoint]:
    """Where each judge is, by name: ours first, rules before models. Others of a name are told."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=_order):
        if point.name in found:
            _LOG.warning(
                "two judges are called %r; that of %s is left out", point.name, point.value
            )
        elif _is_name(point.name):
            found[point.name] = point
        else:
            _LOG.warning("no judge can be called %r; it is left out", point.name)
    return found


def judge_names() -> tuple[str, ...]:
    """Every judge that can be asked for by name."""
    return tuple(judge_points())


def _order(point: EntryPoint) -> tuple[bool, bool, str, str]:
    return not point.value.startswith(_OURS), _RULES not in point.value, point.name, point.value


def _is_name(name: str) -> bool:
    try:
        file_name(name, what="the name of a judge")
    except InputError:
        return False
    return True
