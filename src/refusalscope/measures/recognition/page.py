"""What still knows, on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.recognition.record import Reading, Recognition
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, number, percent
from refusalscope.results.monitor_records import TruePositives

_PLACES = {"instruction": "last token of the instruction", "template": "last token of the template"}


def section(records: Sequence[Recognition]) -> Section | None:
    """One table."""
    (found,) = records
    n = sum(
        (one.separation.auroc_low is not None) + sum(at.tpr is not None for at in one.separation.at)
        for one in found.readings
    )
    return Section(tables=(recognition_table(found),), n_intervals=n)


def summary(records: Sequence[Recognition]) -> Mapping[str, object]:
    """AUROC of each probe."""
    return {_name(one): one.separation.auroc for one in records[0].readings}


def lines(records: Sequence[Recognition]) -> Iterator[str]:
    """A line for each probe, and what they say together."""
    for one in records[0].readings:
        shown = "; ".join(
            f"TPR at {at.fpr:.0%} FPR "
            + ("not stated" if at.tpr is None else f"{at.tpr:.2f} [{at.low:.2f}, {at.high:.2f}]")
            for at in one.separation.at
        )
        yield f"{_name(one)}: AUROC {one.separation.auroc:.3f}; {shown}"
    yield verdict(records[0])


def verdict(found: Recognition) -> str:
    """Whether the ablated model still knows what is harmful, in one sentence."""
    best = {
        state: max(
            one.separation.auroc for one in found.readings if one.state == state == one.fitted
        )
        for state in ("as it is", "ablated")
    }
    words = (
        f"(AUROC {number(best['ablated'], 3)} with the direction ablated, "
        f"{number(best['as it is'], 3)} without)"
    )
    if best["ablated"] > 0.9:
        return f"Harm can still be read from the activations of the ablated model {words}."
    if best["ablated"] < 0.6:
        return f"Harm can hardly be read from the ablated model's activations {words}."
    return f"Harm can be read less well from the ablated model's activations {words}."


def _name(one: Reading) -> str:
    fitted = "" if one.fitted == one.state else f", probe fitted {one.fitted}"
    return f"{one.place}, {one.state}{fitted}"


def recognition_table(found: Recognition) -> Table:
    """Every probe."""
    separation = found.readings[0].separation
    return Table(
        title="What still knows: harm read from activations",
        caption="A logistic probe on the residual stream, fitted on training instructions, its "
        f"layer chosen on validation ones, read on {separation.n_harmful} harmful and "
        f"{separation.n_harmless} harmless test instructions. A rate of false positives is not "
        f"stated on fewer harmless ones than it needs. {verdict(found)} Small: 95 % intervals.",
        header=("Read at", "Model", "Layer", "AUROC", "TPR at 1 % FPR", "TPR at 5 % FPR"),
        rows=tuple(_row(one) for one in found.readings),
    )


def _row(one: Reading) -> tuple[str, ...]:
    own = one.separation
    between = (
        ""
        if own.auroc_low is None
        else f"\n{number(own.auroc_low, 3)} to {number(own.auroc_high, 3)}"
    )
    return (
        _PLACES[one.place],
        f"{one.state}\nprobe fitted {one.fitted}",
        str(one.layer),
        f"{number(own.auroc, 3)}{between}",
        *(_rate(at) for at in own.at),
    )


def _rate(at: TruePositives) -> str:
    if at.tpr is None or at.low is None or at.high is None:
        return f"{NOT_MEASURED}\n{at.reason}"
    return f"{percent(at.tpr)}\n{percent(at.low)} to {percent(at.high)}"
