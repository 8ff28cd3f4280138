"""Carried directions on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.transfer.record import Carried, Effect, Transfer
from refusalscope.report.outcome_cells import change_cell, share_cell
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.visible_text import visible_plain
from refusalscope.report.wording import number, percent, position_name

_HALF = 0.5


def section(records: Sequence[Transfer]) -> Section | None:
    """One table."""
    (found,) = records
    n = sum(3 + 2 * len(one.random) for one in found.carried)
    return Section(tables=(transfer_table(found),), n_intervals=4 + n)


def summary(records: Sequence[Transfer]) -> Mapping[str, object]:
    """By source: the cosine with the run's own, and its share of the own fall of refusal."""
    return {
        one.source: {"cosine": one.cosine, "share": one.share, "explained": one.explained}
        for one in records[0].carried
    }


def lines(records: Sequence[Transfer]) -> Iterator[str]:
    """A line for each source, and its sentence."""
    (found,) = records
    yield (
        f"refused at the first token: {found.harmful.rate:.2f} as it is, "
        f"{found.own.bypass.rate:.2f} without the run's direction (n = {found.harmful.n})"
    )
    for one in found.carried:
        yield verdict(found, one)


def verdict(found: Transfer, one: Carried) -> str:
    """What a carried direction does, in one sentence."""
    share = "" if one.share is None else f", {percent(one.share)} of what the run's own does"
    does = (
        f"carried from {visible_plain(one.model)} (cosine {number(one.cosine, 2)} with the run's "
        f"own), ablated it leaves {percent(one.effect.bypass.rate)} refused{share}"
    )
    random = [each.bypass.rate for each in one.random]
    control = f"random directions carried with it leave {percent(min(random))} or more"
    if one.share is None:
        return f"{does}; the run's own bypasses nothing here, so there is nothing to compare."
    falls = found.harmful.rate - min(random)
    if falls >= _HALF * (found.harmful.rate - found.own.bypass.rate):
        return (
            f"{does}; but {control}, so the map carries what bypasses whatever it is given, and "
            f"nothing is shown of the direction."
        )
    if one.share >= _HALF:
        return f"{does}; {control}: it comes over."
    return f"{does}; {control}: it does not come over."


def transfer_table(found: Transfer) -> Table:
    """The run's own direction beside those of other models."""
    own = ("the run's own", "", "1", *_cells(found.own), "")
    return Table(
        title="Directions of other models, carried over",
        caption=(
            f"A ridge map from the other model's activations at its direction's place to this "
            f"model's at its own (position {position_name(found.position)}, layer {found.layer}), "
            f"fitted on harmless instructions alone, carries the direction and random ones of the "
            f"other model. Refused at the first token (refusal metric above "
            f"{number(found.threshold, 2)}): harmful instructions with the direction ablated "
            f"({percent(found.harmful.rate)} as the model is), harmless ones with it added at the "
            f"length of the run's own ({percent(found.harmless.rate)}). "
            + " ".join(_sentence(verdict(found, one)) for one in found.carried)
            + " Small: 95 % intervals, of the change over the same instructions."
        ),
        header=(
            *("Direction", "Map explains", "Cosine with own", "Harmful, ablated"),
            *("Harmless, added", "Change from own"),
        ),
        rows=(own, *(row for one in found.carried for row in _rows(one))),
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _rows(one: Carried) -> Iterator[tuple[str, ...]]:
    plain = "" if one.plain_cosine is None else f"\n{number(one.plain_cosine, 2)} as it is"
    yield (
        f"{visible_plain(one.model)}\nposition {position_name(one.position)}, layer {one.layer}",
        f"{number(one.explained, 2)}\nof the variance, held out; n = {one.n_shared}",
        f"{number(one.cosine, 2)}{plain}",
        *_cells(one.effect),
        change_cell(one.change),
    )
    for i, each in enumerate(one.random, 1):
        yield (f"its random direction {i}\ncontrol", "", "", *_cells(each), "")


def _cells(effect: Effect) -> tuple[str, str]:
    return share_cell(effect.bypass), share_cell(effect.induce)
