"""A plan as lines of text: one a stage, in columns."""

from refusalscope.results.plan_records import Plan, PlannedRange, PlannedStage

_GB = 1e9
_HEAD = ("stage", "memory GB", "weights", "cache", "kept", "pass", "rows", "PFLOP", "time", "where")


def plan_lines(plan: Plan) -> list[str]:
    """The model, the machine, a table of stages, and what it all rests on.

    Memory is that of the busiest device, or of the process, in GB of 10^9 bytes. Ranges are what is
    typical, where that was measured, and the most.
    """
    model, machine = plan.model, plan.machine
    active = "" if model.n_active is None else f", {_short(model.n_active)} at work on a token"
    memory = "" if machine.device_memory is None else f" of {machine.device_memory / _GB:.0f} GB"
    place = f"the CPU{memory}" if machine.kind == "cpu" else f"{machine.n_devices} x{memory[3:]}"
    head = (
        f"{model.name} ({model.architecture}): {_short(model.n_parameters)} parameters{active}; "
        f"{model.weight_bytes / _GB:.2f} GB in {model.dtype}, "
        f"{model.cache_bytes_per_token / 1e3:.0f} kB of keys and values a token; on {place}"
    )
    rows = [_HEAD, *(_cells(stage) for stage in plan.stages)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD) - 1)]
    table = [
        "  ".join(
            (*(_aligned(row[i], width, i) for i, width in enumerate(widths)), row[-1])
        ).rstrip()
        for row in rows
    ]
    return [head, *table, *(f"- {one}" for one in plan.assumptions)]


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _cells(stage: PlannedStage) -> tuple[str, ...]:
    memory = stage.memory
    flops = stage.flops
    return (
        stage.name,
        _gb(stage.total),
        _gb(memory.weights),
        _gb(memory.cache),
        _gb(memory.kept + memory.process),
        _gb(memory.activations + memory.logits),
        _span(stage.passes, 1.0, "{:.0f}"),
        _span(flops, 1e15, "{:.3g}"),
        _time(stage.seconds),
        stage.where,
    )


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / _GB:.2f}"


def _span(found: PlannedRange | None, unit: float, form: str) -> str:
    """What is typical and the most, or the most alone; a dash is: not measured, or nothing."""
    if found is None:
        return "-"
    most = form.format(found.at_most / unit)
    if found.typical is None:
        return f"<= {most}"
    typical = form.format(found.typical / unit)
    return most if typical == most else f"{typical} - {most}"


def _time(seconds: PlannedRange | None) -> str:
    if seconds is None:
        return "-"
    most = _duration(seconds.at_most)
    if seconds.typical is None:
        return f"<= {most}"
    typical = _duration(seconds.typical)
    return most if typical == most else f"{typical} - {most}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _short(n: int) -> str:
    for size, word in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.1f} {word}"
    return str(n)
