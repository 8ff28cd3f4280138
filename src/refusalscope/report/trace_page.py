"""The page of `organism trace`: cosine, scores and refusal over the steps of training."""

from pathlib import Path

from refusalscope.report.chart import Chart
from refusalscope.report.figure_page import render_figures
from refusalscope.report.mechanism_curves import HARMFUL, HARMLESS, Line, line_chart
from refusalscope.results.files import write_file
from refusalscope.results.trace_record import OrganismTrace


def write_trace_page(trace: OrganismTrace, path: Path) -> None:
    """Write the page; the same record gives the same bytes."""
    where = f"position {trace.position}, layer {trace.layer} of {trace.n_layers}"
    write_file(
        path,
        render_figures(
            title=f"How refusal forms in {trace.organism}",
            lead=f"Every checkpoint of its training, measured at {where}: the place of the "
            f"finished organism's direction. Stages: {_stages(trace)}.",
            charts=trace_charts(trace),
        ),
    )


def trace_charts(trace: OrganismTrace) -> tuple[Chart, ...]:
    """Three charts over all steps, stages one after another."""
    points, steps = trace.points, [point.step for point in trace.points]
    return (
        line_chart(
            "trace-cosine",
            title="Is the direction there?",
            caption="Cosine of each checkpoint's own difference of means with the final direction.",
            lines=[Line(name="cosine", colour=HARMFUL, values=[p.cosine for p in points])],
            unit="cosine with the final direction",
            over="step",
            places=steps,
        ),
        line_chart(
            "trace-scores",
            title="Does it act?",
            caption="Refusal metric of harmful prompts with the checkpoint's own difference "
            "ablated (bypass), and of harmless prompts with it added (induce).",
            lines=[
                Line(name="bypass", colour=HARMFUL, values=[p.bypass for p in points]),
                Line(name="induce", colour=HARMLESS, values=[p.induce for p in points]),
            ],
            unit="log-odds of refusing, nats",
            over="step",
            places=steps,
        ),
        line_chart(
            "trace-refusal",
            title="Does the model refuse?",
            caption="Share of validation prompts whose first answer token is a refusal.",
            lines=[
                Line(
                    name="harmful", colour=HARMFUL, values=[p.harmful_refused.rate for p in points]
                ),
                Line(
                    name="harmless",
                    colour=HARMLESS,
                    values=[p.harmless_refused.rate for p in points],
                ),
            ],
            unit="share refused",
            over="step",
            places=steps,
        ),
    )


def _stages(trace: OrganismTrace) -> str:
    first: dict[str, int] = {}
    for point in trace.points:
        first.setdefault(point.stage, point.step)
    return ", ".join(f"{stage}, first measured at step {step}" for stage, step in first.items())
