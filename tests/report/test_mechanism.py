"""The section on the mechanism: from records alone, complete where parts are not, and safe."""

import functools
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import plotly.graph_objects as go
import pytest

from refusalscope.report import page as page_module
from refusalscope.report.mechanism_section import MechanismSection, mechanism_section
from refusalscope.report.page import render_report
from refusalscope.results.mechanism_folder import MechanismRecords
from refusalscope.results.mechanism_maps import (
    AdditionMap,
    BaseAndChat,
    BetweenModels,
    Geometry,
    LayerComponents,
    LayerCurve,
    OtherRun,
    ProjectedText,
    TokenProbability,
    TokenProjections,
    TokenStudy,
    Trajectories,
    WhereItActs,
)
from refusalscope.results.mechanism_records import (
    ComponentRow,
    HeadRow,
    Heads,
    KnockOut,
    SearchStep,
    SuffixCondition,
    SuffixConditionName,
    SuffixConditions,
    SuffixFacts,
    SuffixSearch,
)
from refusalscope.results.records import Rate

LAYERS = 4
ATTACK = "</script><img src=x onerror=alert(1)>\x00\u202e"
NAMES: tuple[SuffixConditionName, ...] = (
    "harmful",
    "harmful_random_suffix",
    "harmful_adversarial_suffix",
    "harmless",
)


def rate(value: float) -> Rate:
    return Rate(rate=value, n=100, low=max(0.0, value - 0.05), high=min(1.0, value + 0.05))


def curve(height: float) -> LayerCurve:
    return LayerCurve(mean=tuple(height * i for i in range(LAYERS)), sd=(0.1,) * LAYERS)


def condition(height: float, refusal: float) -> SuffixCondition:
    own = curve(height)
    return SuffixCondition(refusal=rate(refusal), cosine_mean=own.mean, cosine_sd=own.sd, n=98)


def suffixes(**changes: Any) -> SuffixConditions:
    values: dict[str, Any] = {
        "position": -1,
        "layer": 2,
        "suffix": SuffixFacts(
            source="search",
            text=" a b",
            ids=(5, 6),
            n_tokens=2,
            n_prompts=100,
            n_read_differently=0,
        ),
        "random_read_differently": 40,
        "harmful": condition(0.2, 0.99),
        "harmful_random_suffix": condition(0.19, 0.98),
        "harmful_adversarial_suffix": condition(0.05, 0.01),
        "harmless": condition(-0.01, 0.0),
    }
    return SuffixConditions(**{**values, **changes})


def head_row(layer: int, head: int, size: float) -> HeadRow:
    sizes = (size, 0.9 * size, 0.2 * size, 0.0)
    return HeadRow(
        kind="head",
        layer=layer,
        head=head,
        contribution=dict(zip(NAMES, sizes, strict=True)),
        attention={
            name: {"instruction": 0.6, "suffix": 0.3, "template": 0.1, "first": 0.0, "sink": 0.0}
            for name in NAMES
        },
    )


def heads(**changes: Any) -> Heads:
    values: dict[str, Any] = {
        "n_prompts": dict.fromkeys(NAMES, 98),
        "heads": tuple(head_row(1, i, 3.0 - i) for i in range(3)),
        "components": (
            ComponentRow(kind="mlp", layer=1, head=None, contribution=dict.fromkeys(NAMES, -1.0)),
        ),
        "projection": dict.fromkeys(NAMES, (0.0, 1.0)),
        "sum_error": 3e-7,
        "whole": {},
        "attention_refused": None,
        "knock_out": KnockOut(
            n_heads=3, n_prompts=98, baseline=5.0, top=-3.0, random=(4.9, 4.7), seed=0
        ),
    }
    return Heads(**{**values, **changes})


def tokens(text: str = "I") -> TokenStudy:
    rows = tuple(TokenProbability(id=i, text=text, probability=0.5 / (i + 1)) for i in range(10))
    return TokenStudy(
        n_harmful=3,
        n_harmless=2,
        harmful=rows,
        harmless=rows,
        harmful_metric=(5.0, 6.0, -1.0),
        harmless_metric=(-8.0, -9.0),
        proposed=rows[:1],
        error=rate(0.02),
        error_in_use=rate(0.01),
    )


def geometry(category: str = "trap") -> Geometry:
    table = ((1.0, None), (None, 1.0))
    return Geometry(
        positions=(-2, -1),
        with_chosen=((None, 0.5, 0.5, 0.5), (None, 0.2, 1.0, 0.9)),
        between_layers=((None,) * 4, *(((None, 1.0, 0.5, 0.5),) * 3)),
        between_positions=table,
        categories={category: 12, "scam": 9},
        between_categories=((1.0, 0.9), (0.9, 1.0)),
        category_with_chosen=(0.9, 0.95),
        components=tuple(
            LayerComponents(
                layer=i,
                explained=(0.6, 0.2) if i else (),
                along_direction=0.5 if i else 0.0,
                harmful=((1.0, 0.1),),
                harmless=((-1.0, 0.2),),
            )
            for i in range(LAYERS)
        ),
    )


def between(model: str = "other") -> BetweenModels:
    other = OtherRun(
        run="runs/other",
        model=model,
        weights_sha256="00" * 32,
        position=-1,
        layer=1,
        directions=0.4,
        between_layers=((None, None), *(((None, 0.4),) * 3)),
    )
    return BetweenModels(position=-1, layer=2, others=(other,))


def projections(token: str = "open") -> TokenProjections:
    rows = ((0.0, 1.0, -2.0, 3.0), (0.0, -1.0, 2.0, 0.5))
    return TokenProjections(
        texts=(
            ProjectedText(
                label="harmful", is_harmful=True, tokens=(f"secret-{token}", "."), projection=rows
            ),
            ProjectedText(
                label="harmless", is_harmful=False, tokens=(f"plain-{token}", "."), projection=rows
            ),
        )
    )


def records(**changes: Any) -> MechanismRecords:
    values: dict[str, Any] = {
        "search": SuffixSearch(
            text=" a b",
            ids=(5, 6),
            n_prompts=6,
            targets=("Sure",) * 6,
            n_tokens=2,
            candidates=64,
            top_k=32,
            enough=0.01,
            seed=0,
            steps=tuple(SearchStep(step=i, loss=4.0 - i, ids=(5, 6), n_tried=64) for i in range(4)),
        ),
        "suffixes": suffixes(),
        "heads": heads(),
        "tokens": tokens(),
        "trajectories": Trajectories(
            n_prompts={"harmful": 98, "harmless": 100},
            curves={
                kind: {name: curve(0.1) for name in ("baseline", "subtraction", "ablation")}
                for kind in ("harmful", "harmless")
            },
        ),
        "base": BaseAndChat(
            base="some/base",
            base_weights_sha256="00" * 32,
            n_prompts={"harmful": 98, "harmless": 100},
            curves={
                kind: {name: curve(0.1) for name in ("chat", "base")}
                for kind in ("harmful", "harmless")
            },
            difference_cosine=(None, 0.5, 0.4, 0.3),
        ),
        "where": WhereItActs(
            n_harmful=30,
            n_harmless=32,
            baseline_harmful=5.0,
            baseline_harmless=-11.0,
            everywhere=-6.0,
            one_layer=(5.0, 4.0, -2.0, 1.0),
            from_layer=(-6.0, -5.0, -3.0, 1.0),
            one_position={-2: 5.0, -1: -5.0},
            instruction=4.9,
            sites={"attn_out": -5.5, "mlp_out": 4.0},
            addition=AdditionMap(
                coefficients=(0.5, 1.0),
                harmless=((-3.0,) * 4, (4.0,) * 4),
                harmful=((2.0,) * 4, (-6.0,) * 4),
            ),
        ),
        "projections": projections(),
        "geometry": geometry(),
        "between": between(),
    }
    return MechanismRecords(**{**values, **changes})


_PARTS = functools.cache(page_module.page_parts)


@pytest.fixture(autouse=True)
def _packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plotly is the same on every page; packing it takes most of the time of one."""
    monkeypatch.setattr(page_module, "page_parts", _PARTS)


def section(**changes: Any) -> MechanismSection:
    found = mechanism_section(records(**changes))
    assert found is not None
    return found


def test_plotly_accepts_every_figure():
    charts = section().charts
    assert len(charts) == 21
    assert len({chart.id for chart in charts}) == 21
    for chart in charts:
        go.Figure(chart.figure)
        assert len(chart.alternative) > 30
        assert all(len(row) == len(chart.header) for row in chart.rows)


def chart_of(name: str, **changes: Any) -> Any:
    return next(c for c in section(**changes).charts if c.id == f"chart-mechanism-{name}")


def test_the_cosines_of_the_four_conditions_are_drawn_with_bands():
    figure = chart_of("suffixes").figure
    lines = [trace for trace in figure["data"] if trace.get("fill") is None]
    bands = [trace for trace in figure["data"] if trace.get("fill") == "toself"]
    assert [line["y"] for line in lines] == [
        list(getattr(suffixes(), name).cosine_mean) for name in NAMES
    ]
    assert bands[0]["y"][:2] == [0.1, pytest.approx(0.3)]
    assert bands[0]["y"][-1] == -0.1


def test_heads_are_stacked_one_colour_each_with_their_contributions():
    figure = chart_of("heads").figure
    assert [bar["name"] for bar in figure["data"]] == ["H1.0", "H1.1", "H1.2"]
    assert figure["data"][0]["x"] == ["no suffix", "random suffix", "adversarial suffix"]
    assert figure["data"][0]["y"] == [3.0, 2.7, pytest.approx(0.6)]
    assert len({bar["marker"]["color"] for bar in figure["data"]}) == 3


def test_without_attention_its_chart_is_left_away_and_the_reason_told(sample: SimpleNamespace):
    none = tuple(row.model_copy(update={"attention": None}) for row in heads().heads)
    refused = heads(heads=none, attention_refused="mamba: no attention", knock_out=None)
    charts = section(heads=refused).charts
    assert not any(c.id.endswith(("attention", "knock-out")) for c in charts)
    page = render_report(sample.run(), records(heads=refused))
    assert "mamba: no attention" in page


def test_candidates_of_another_run_are_a_map_of_their_own():
    chart = chart_of("between-models-1")
    assert chart.title == "Candidates of this run and of other"
    assert chart.figure["data"][0]["z"][1] == [None, 0.4]
    assert chart.header == ("Layer", "0", "1")
    assert chart.rows[0] == ("0", "·", "·")


def test_metrics_are_counted_once_each():
    chart = chart_of("metric")
    assert [sum(trace["y"]) for trace in chart.figure["data"]] == [3, 2]
    assert "Harmful prompts at or below 0: 1 of 3" in chart.caption


def test_tokens_with_one_label_stay_several_bars():
    bars = chart_of("first-harmful").figure["data"][0]
    assert len(set(bars["x"])) == 10


def test_a_run_without_records_has_no_section(sample: SimpleNamespace, page: str):
    nothing = dict.fromkeys(MechanismRecords.__slots__)
    assert mechanism_section(None) is None
    assert mechanism_section(MechanismRecords(**nothing)) is None  # pyright: ignore[reportArgumentType] # all parts absent
    assert render_report(sample.run(), None) == page
    assert 'id="mechanism"' not in page


@pytest.mark.parametrize("part", MechanismRecords.__slots__)
def test_a_part_alone_and_all_but_a_part_render(sample: SimpleNamespace, part: str):
    whole = records()
    without = replace(whole, **{part: None})
    alone = replace(without, **dict.fromkeys(MechanismRecords.__slots__))
    alone = replace(alone, **{part: getattr(whole, part)})
    for some in (without, alone):
        page = render_report(sample.run(), some)
        assert 'id="mechanism"' in page
        assert page.count('href="#mechanism"') == 1


def own_part(page: str) -> str:
    found = re.search(r'<section id="mechanism".*?</section>\s*<section id="prov', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_harmful_texts_are_folded(sample: SimpleNamespace):
    own = own_part(render_report(sample.run(), records()))
    views = re.findall(
        r'<details class="chart-card numbers"( open)?>(.*?)</details>', own, re.DOTALL
    )
    assert [(bool(is_open), "secret-" in text) for is_open, text in views] == [
        (False, True),
        (True, False),
    ]
    assert "secret-" not in re.sub(r"<details.*?</details>", "", own, flags=re.DOTALL)


def test_what_a_model_wrote_stays_text(sample: SimpleNamespace):
    clean = render_report(sample.run(), records())
    page = render_report(
        sample.run(),
        records(
            tokens=tokens(ATTACK),
            geometry=geometry(ATTACK),
            between=between(ATTACK),
            projections=projections(ATTACK),
            suffixes=suffixes(warnings=(ATTACK,)),
            heads=heads(whole={ATTACK: ATTACK}),
        ),
    )
    own = own_part(page)
    assert "<img" not in own
    assert "\x00" not in page
    assert "\u202e" not in page
    assert page.count("<script") == clean.count("<script")
    assert page.count("</script>") == clean.count("</script>")
    data = re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert "<" not in data[1]


def test_every_table_has_a_caption(sample: SimpleNamespace):
    own = own_part(render_report(sample.run(), records()))
    assert own.count("<table") == own.count("<caption") > 21


def test_the_lead_says_how_far_the_suffix_lowers_refusal():
    lead = section().groups[0].lead
    assert lead.startswith("Refusal of harmful instructions is 99 % without a suffix, 98 % with 2")
    assert "1 % (n = 100" in lead
    given = suffixes(suffix=suffixes().suffix.model_copy(update={"source": "own.txt"}))
    assert "with one that was given" in section(suffixes=given, search=None).groups[0].lead


def test_deep_models_show_every_so_many_layers():
    deep = ProjectedText(
        label="x", is_harmful=False, tokens=("a",), projection=(tuple(float(i) for i in range(80)),)
    )
    (view,) = section(projections=TokenProjections(texts=(deep,))).views
    assert view.layers == tuple(range(0, 80, 4))
    assert view.rows[0][1][-1].value == "76.0"


def test_a_given_text_is_of_unknown_harm_and_folded():
    texts = tuple(
        ProjectedText(label=label, is_harmful=harm, tokens=("a",), projection=((1.0,),))
        for label, harm in (("harmless", False), ("given 1", None))
    )
    views = section(projections=TokenProjections(texts=texts)).views
    assert [(view.label, view.is_folded) for view in views] == [
        ("harmless", False),
        ("given 1", True),
    ]
