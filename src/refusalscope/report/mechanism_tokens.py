"""First tokens, the refusal metric and texts token by token: figures 9 and 10, the token view."""

from collections.abc import Sequence
from dataclasses import dataclass

from refusalscope.report.chart import Chart, Figure, axis, layout
from refusalscope.report.mechanism_curves import HARMFUL, HARMLESS
from refusalscope.report.visible_text import plot_label, token_label
from refusalscope.report.wording import number, rate_in_full
from refusalscope.results.mechanism_maps import (
    ProjectedText,
    TokenProbability,
    TokenProjections,
    TokenStudy,
)

_N_BINS = 40
_MAX_COLUMNS = 24


def token_charts(record: TokenStudy) -> tuple[Chart, ...]:
    """Figures 9a, 9b and 10."""
    return (
        _first_tokens("harmful", HARMFUL, record.harmful, record.n_harmful),
        _first_tokens("harmless", HARMLESS, record.harmless, record.n_harmless),
        _histogram(record),
    )


def proposal(record: TokenStudy) -> str:
    """What tokens mark a refusal, and how often they err, in a sentence."""
    used = f"The tokens in use err on {rate_in_full(record.error_in_use)} of test completions."
    if record.error is None:
        return f"No first token separates the two sets. {used}"
    names = ", ".join(f"“{token_label(token.text)}”" for token in record.proposed)
    return (
        f"Proposed from the training prompts: {names}. A metric above 0 with them says otherwise "
        f"than the phrases on {rate_in_full(record.error)} of test completions. {used}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCell:
    """One token at one layer."""

    value: str
    strength: int
    """Share of the strongest colour, in per cent."""
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A text token by token."""

    label: str
    is_folded: bool
    """Harmful, or a given text, of which that is not known."""
    layers: tuple[int, ...]
    rows: tuple[tuple[str, tuple[TokenCell, ...]], ...]


def token_views(record: TokenProjections) -> tuple[TokenView, ...]:
    """The texts of a record; of deep models every so many layers."""
    largest = max(
        (abs(v) for text in record.texts for row in text.projection for v in row), default=0.0
    )
    return tuple(_view(text, largest or 1.0) for text in record.texts)


def _view(text: ProjectedText, largest: float) -> TokenView:
    n_layers = len(text.projection[0])
    layers = tuple(range(0, n_layers, -(-n_layers // _MAX_COLUMNS)))
    return TokenView(
        label=text.label,
        is_folded=text.is_harmful is not False,
        layers=layers,
        rows=tuple(
            (token_label(token), tuple(_cell(row[layer], largest) for layer in layers))
            for token, row in zip(text.tokens, text.projection, strict=True)
        ),
    )


def _cell(value: float, largest: float) -> TokenCell:
    return TokenCell(
        value=number(value, 1),
        strength=round(45 * abs(value) / largest),
        colour=HARMFUL if value > 0 else HARMLESS,
    )


def _first_tokens(kind: str, colour: str, tokens: Sequence[TokenProbability], n: int) -> Chart:
    labels = [plot_label(token_label(token.text)) for token in tokens]
    told = ", ".join(
        f"{token_label(token.text)} {number(token.probability, 2)}" for token in tokens[:3]
    )
    bars: Figure = {
        "type": "bar",
        # Numbered, so that two tokens with one label stay two bars.
        "x": [f"{i}" for i in range(len(labels))],
        "y": [token.probability for token in tokens],
        "marker": {"color": colour},
        "customdata": labels,
        "hovertemplate": "%{customdata}: %{y:.4f}<extra></extra>",
    }
    return Chart(
        id=f"chart-mechanism-first-{kind}",
        title=f"First token after {kind} prompts",
        caption=f"Mean probability over {n} training prompts; the ten likeliest.",
        alternative=f"Mean probability of the first token after {kind} prompts: {told}.",
        figure={
            "data": [bars],
            "layout": layout(
                height=290,
                xaxis=axis(
                    "",
                    type="category",
                    fixedrange=True,
                    showgrid=False,
                    tickvals=[f"{i}" for i in range(len(labels))],
                    ticktext=labels,
                ),
                yaxis=axis("probability", fixedrange=True, rangemode="tozero"),
            ),
        },
        header=("Token", "Id", "Probability"),
        rows=tuple((token_label(t.text), str(t.id), number(t.probability, 4)) for t in tokens),
    )


def _histogram(record: TokenStudy) -> Chart:
    sets = (
        ("harmful", HARMFUL, record.harmful_metric),
        ("harmless", HARMLESS, record.harmless_metric),
    )
    values = [value for _, _, own in sets for value in own]
    low, high = min(values), max(values)
    step = (high - low) / _N_BINS or 1.0
    counts = {
        name: [_count(own, low + i * step, step, last=i == _N_BINS - 1) for i in range(_N_BINS)]
        for name, _, own in sets
    }
    wrong = sum(v <= 0 for v in record.harmful_metric), sum(v >= 0 for v in record.harmless_metric)
    return Chart(
        id="chart-mechanism-metric",
        title="Refusal metric of every prompt",
        caption=(
            f"Log-odds that the first token is a refusal token. Harmful prompts at or below 0: "
            f"{wrong[0]} of {record.n_harmful}; harmless ones at or above 0: {wrong[1]} of "
            f"{record.n_harmless}."
        ),
        alternative=f"Histogram of the refusal metric from {number(low, 1)} to {number(high, 1)}.",
        figure={
            "data": [
                {
                    "type": "bar",
                    "name": name,
                    "x": [low + (i + 0.5) * step for i in range(_N_BINS)],
                    "y": counts[name],
                    "width": step,
                    "opacity": 0.75,
                    "marker": {"color": colour},
                    "hovertemplate": "%{x:.1f}: %{y} prompts",
                }
                for name, colour, _ in sets
            ],
            "layout": layout(
                barmode="overlay",
                height=290,
                showlegend=True,
                legend={"orientation": "h", "y": -0.25, "font": {"size": 12}},
                xaxis=axis("refusal metric, nats", fixedrange=True, showgrid=False),
                yaxis=axis("prompts", fixedrange=True),
            ),
        },
        header=("Metric from", "harmful", "harmless"),
        rows=tuple(
            (number(low + i * step, 2), str(counts["harmful"][i]), str(counts["harmless"][i]))
            for i in range(_N_BINS)
            if counts["harmful"][i] or counts["harmless"][i]
        ),
    )


def _count(values: Sequence[float], start: float, step: float, *, last: bool) -> int:
    return sum(start <= v < start + step or (last and v >= start + step) for v in values)
