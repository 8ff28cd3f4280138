"""How numbers and conditions are worded on the page, everywhere the same."""

from typing import get_args

from refusalscope.results.records import Condition, Rate

NOT_MEASURED = "not measured"
NOT_RECORDED = "not recorded"
CONDITIONS: tuple[str, ...] = get_args(Condition)
CONTROLS = ("random_ablation", "random_addition", "random_suffix")

CONDITION_MEANINGS = {
    "baseline": "the model as it is",
    "ablation": "the direction is removed from the residual stream, at every layer and token",
    "addition": "the direction is added (+r) at its own layer, at every token",
    "subtraction": "the direction is subtracted (\N{MINUS SIGN}r) at its own layer, at every token",
    "random_ablation": "control: a random direction is removed instead",
    "random_addition": "control: a random direction of equal norm is added instead",
    "random_suffix": "control: the model as it is, with random tokens after each instruction",
}


def condition_name(condition: str) -> str:
    """A condition as it is written on the page."""
    return condition.replace("_", " ")


def conditions_in_order(names: set[str]) -> list[str]:
    """The known conditions in their usual order, then any others by name."""
    known = [name for name in CONDITIONS if name in names]
    return known + sorted(names - set(known))


def percent(share: float) -> str:
    """A share as a percentage with at most one decimal; only exact 0 and 1 read 0 % and 100 %."""
    value = round(100 * share, 1)
    if 0 < share < 1:
        value = min(max(value, 0.1), 99.9)
    return f"{value:.1f}".removesuffix(".0") + " %"


def interval(rate: Rate) -> str:
    """The 95 % interval of a rate, such as `97.1-100 %`, with an en dash."""
    return f"{percent(rate.low).removesuffix(' %')}\N{EN DASH}{percent(rate.high)}"


def rate_in_full(rate: Rate) -> str:
    """A rate with its count and interval, on one line."""
    return f"{percent(rate.rate)} (n = {rate.n}, 95 % CI {interval(rate)})"


def number(value: float | None, digits: int = 3) -> str:
    """A number with a real minus sign, or that it was not measured."""
    if value is None:
        return NOT_MEASURED
    text = f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else f"{0:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, such as +0.02."""
    text = number(value, digits)
    return text if text.startswith("\N{MINUS SIGN}") or not float(text) else f"+{text}"


def position_name(position: int) -> str:
    """A token position counted from the end, such as -2, with a real minus sign."""
    return str(position).replace("-", "\N{MINUS SIGN}")


def thousands(value: int) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")
