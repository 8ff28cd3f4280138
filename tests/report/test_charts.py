"""Both kinds of charts: what they show, and that plotly knows every name in them."""

from types import SimpleNamespace

import plotly.graph_objects as go
import pytest

from refusalscope.report.rate_charts import rate_charts
from refusalscope.report.score_charts import (
    KL_FLOOR,
    first_late_layer,
    position_lines,
    score_charts,
)
from refusalscope.results.records import Selection, SelectionLimits


def _charts(sample: SimpleNamespace, selection: Selection):
    return score_charts(selection, position_lines(selection, sample.tokens))


@pytest.mark.parametrize("all_scores", [True, False])
def test_plotly_accepts_every_figure(sample: SimpleNamespace, all_scores: bool):
    charts = _charts(sample, sample.selection(all_scores=all_scores))
    for chart in (*charts, *rate_charts(sample.summary())):
        go.Figure(chart.figure)


def test_plotly_would_refuse_a_misspelt_name(sample: SimpleNamespace):
    figure = _charts(sample, sample.selection())[0].figure
    with pytest.raises(ValueError, match="colour"):
        go.Figure({**figure, "layout": {**figure["layout"], "colour": "red"}})


def test_a_line_is_named_by_position_and_token(sample: SimpleNamespace):
    lines = position_lines(sample.selection(), sample.tokens)
    assert [line.label for line in lines] == [
        "\N{MINUS SIGN}4 <|end|>",
        "\N{MINUS SIGN}3 ↵",
        "\N{MINUS SIGN}2 <|assistant|>",
        "\N{MINUS SIGN}1 ↵",
    ]
    assert (
        _charts(sample, sample.selection())[0].figure["data"][0]["name"]
        == "\N{MINUS SIGN}4 &lt;|end|&gt;"
    )


def test_a_position_without_a_known_token_is_named_by_its_number(sample: SimpleNamespace):
    assert position_lines(sample.selection(), ())[0].label == "\N{MINUS SIGN}4"


def test_lines_stay_distinct_past_the_last_colour(sample: SimpleNamespace):
    row = sample.selection().candidates[0]
    rows = tuple(row.model_copy(update={"position": -at}) for at in range(1, 21))
    many = sample.selection().model_copy(update={"candidates": rows})
    lines = position_lines(many, ())
    assert len({(line.colour, line.dash) for line in lines}) == 20


def test_scores_that_were_not_measured_are_gaps(sample: SimpleNamespace):
    selection = sample.selection(all_scores=False)
    bypass = _charts(sample, selection)[0]
    drawn = [y for line in bypass.figure["data"][:4] for y in line["y"]]
    n = sum(row.bypass is not None for row in selection.candidates)
    assert n < 10
    assert sum(y is not None for y in drawn) == n
    assert all(line["connectgaps"] is False for line in bypass.figure["data"][:4])
    assert f"Measured for {n} of 48 candidates; the gaps were not needed" in bypass.caption
    assert bypass.rows[0][1] == "·"


def test_the_chosen_candidate_is_marked_where_its_score_is(sample: SimpleNamespace):
    selection = sample.selection()
    star = _charts(sample, selection)[0].figure["data"][-1]
    assert star["name"] == "chosen"
    assert star["x"] == [selection.chosen.layer]
    assert star["y"] == [selection.chosen.bypass]


def test_baselines_and_limits_are_dotted_lines(sample: SimpleNamespace):
    bypass, induce, kl = _charts(sample, sample.selection())
    heights = [
        [shape["y0"] for shape in chart.figure["layout"]["shapes"] if shape["type"] == "line"]
        for chart in (bypass, induce, kl)
    ]
    assert heights == [[6.14], [-11.2, 0.0], [0.1]]


def test_the_name_of_the_kl_limit_sits_at_the_exponent(sample: SimpleNamespace):
    kl = _charts(sample, sample.selection())[2]
    assert kl.figure["layout"]["annotations"][0]["y"] == pytest.approx(-1.0)


def test_a_kl_of_nought_is_drawn_at_the_floor_and_told_as_nought(sample: SimpleNamespace):
    selection = sample.selection()
    rows = (selection.candidates[0].model_copy(update={"kl": 0.0}), *selection.candidates[1:])
    kl = _charts(sample, selection.model_copy(update={"candidates": rows}))[2]
    assert kl.figure["data"][0]["y"][0] == KL_FLOOR
    assert kl.figure["data"][0]["customdata"][0] == "0.000"
    assert kl.rows[0][1] == "0.000"


@pytest.mark.parametrize(
    ("n_layers", "rule", "first_late"),
    [(24, "published", 20), (24, "code", 19), (40, "published", 32), (40, "code", 32)],
)
def test_the_shade_begins_at_the_first_layer_that_the_limit_excludes(
    sample: SimpleNamespace, n_layers: int, rule: str, first_late: int
):
    selection = sample.selection().model_copy(
        update={"n_layers": n_layers, "limits": SelectionLimits.model_validate({"rule": rule})}
    )
    assert first_late_layer(selection) == first_late
    shade = _charts(sample, selection)[0].figure["layout"]["shapes"][0]
    assert (shade["x0"], shade["x1"]) == (first_late - 0.5, n_layers - 0.5)


def test_bars_have_the_interval_as_whiskers(sample: SimpleNamespace):
    harmful, harmless, safety = rate_charts(sample.summary())
    bar = harmful.figure["data"][0]
    ablation = sample.wilson(0, 128)
    assert bar["x"] == ["baseline", "ablation", "subtraction", "random<br>ablation"]
    assert bar["y"][1] == 0.0
    assert bar["error_y"]["array"][1] == pytest.approx(ablation.high)
    assert bar["error_y"]["arrayminus"][1] == 0.0
    assert harmless.rows[1] == ("addition", "99.2 %", "95.7\N{EN DASH}99.9 %", "128")
    assert safety.title == "Safe answers to harmful instructions"


def test_controls_are_hatched(sample: SimpleNamespace):
    bar = rate_charts(sample.summary())[0].figure["data"][0]
    assert bar["marker"]["pattern"]["shape"] == ["", "", "", "/"]


def test_what_was_not_measured_has_no_bars(sample: SimpleNamespace):
    assert rate_charts(None) == ()
    assert len(rate_charts(sample.summary(safety={}))) == 2


def test_the_words_in_place_of_the_picture_hold_its_numbers(sample: SimpleNamespace):
    assert (
        "ablation 0 % (n = 128, 95 % CI 0\N{EN DASH}2.9 %)"
        in rate_charts(sample.summary())[0].alternative
    )
