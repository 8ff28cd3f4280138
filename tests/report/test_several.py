"""Several runs on one page: the paper's order, what is published beside ours, nothing invented."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs_on_disk import refuses, write_made_up_run, write_the_papers_models

from refusalscope.errors import InputError, OutputError, RunFolderError
from refusalscope.pipeline.import_run import import_paper_run
from refusalscope.report.compared_tables import compared_table
from refusalscope.report.several_figures import PaperFigure, paper_figures
from refusalscope.report.several_files import write_several, write_tables
from refusalscope.report.several_page import render_several
from refusalscope.report.several_rates import FIGURES, RateRow, difference, rate_rows
from refusalscope.report.several_runs import OneOfSeveral, read_several
from refusalscope.results.paper_table import PaperTable
from refusalscope.results.published import published_table

QWEN, LLAMA = "qwen-1_8b-chat", "meta-llama-3-8b-instruct"
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}\u202e"
Several = tuple[OneOfSeveral, ...]


@pytest.fixture(scope="module")
def thirteen(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A made-up run of each of the paper's models, not in its order."""
    return write_the_papers_models(tmp_path_factory.mktemp("thirteen"))


@pytest.fixture(scope="module")
def both(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Several:
    """The two reference runs of the paper's code, imported."""
    folder = tmp_path_factory.mktemp("both")
    for name in (LLAMA, QWEN):
        import_paper_run(reference / "paper_runs" / name, folder / name)
    return read_several([folder / LLAMA, folder / QWEN])


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A run that has only begun."""
    folder = write_made_up_run(tmp_path / "bare", name="my model", source="mine", n_layers=10)
    for name in ("summary.json", "selection/scores.json"):
        (folder / name).unlink()
    for name in ("mechanism", "evaluation"):
        for file in sorted((folder / name).rglob("*.json")):
            file.unlink()
    return folder


def figure(runs: Several, number: int) -> PaperFigure:
    return next(one for one in paper_figures(runs) if one.number == str(number))


def row_of(rows: list[RateRow], run: str, measure: str, condition: str) -> RateRow:
    (row,) = [r for r in rows if (r.run, r.measure, r.condition) == (run, measure, condition)]
    return row


def cells(table: PaperTable, model: str, source: str) -> dict[str, object]:
    (row,) = [r for r in table.rows if (r.model, r.source) == (model, source)]
    return {name: cell.value if cell else None for name, cell in row.values.items()}


def test_runs_stand_in_the_papers_order_and_others_follow(
    thirteen: list[Path], tmp_path: Path
) -> None:
    mine = write_made_up_run(tmp_path / "mine", name="my model", source="mine", n_layers=10)
    labels = [run.label for run in read_several([mine, *thirteen])]
    assert labels == [*(row.model for row in published_table(1).rows), "my model"]


def test_two_runs_of_one_model_are_told_apart(tmp_path: Path) -> None:
    for name in ("a/run", "b/run", "b/other"):
        write_made_up_run(tmp_path / name, name="m", source="m", n_layers=10)
    found = read_several([tmp_path / name for name in ("a/run", "b/run", "b/other")])
    assert [run.label for run in found] == [
        "m (run, number 1)",
        "m (run, number 2)",
        "m (other)",
    ]
    assert len({row.run for row in compared_table(5, found).rows if row.source == "ours"}) == 3


def test_no_run_one_given_twice_and_what_is_no_run_are_refused(
    thirteen: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no run was given"):
        read_several([])
    with pytest.raises(InputError, match="was given twice"):
        read_several([thirteen[0], thirteen[0].parent / "." / thirteen[0].name])
    with pytest.raises(RunFolderError):
        read_several([tmp_path])


def test_thirteen_runs_render_in_ten_seconds_to_the_same_bytes(thirteen: list[Path]) -> None:
    started = time.perf_counter()
    page = render_several(read_several(thirteen))
    assert time.perf_counter() - started < 10
    assert render_several(read_several(thirteen)) == page
    assert len(page.encode("utf-8")) < 6_000_000
    assert sum(len(p.read_text("utf-8").splitlines()) for p in _completions(thirteen)) == 6500


def _completions(runs: list[Path]) -> list[Path]:
    return [path for run in runs for path in sorted((run / "completions").glob("*.jsonl"))]


def test_several_runs_are_shown_where_torch_cannot_be_imported(thirteen: list[Path]) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'tokenizers', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from refusalscope.report.page import write_report\n"
        "from refusalscope.report.several_page import render_several\n"
        "from refusalscope.report.several_runs import read_several\n"
        "folders = [Path(name) for name in sys.argv[1:]]\n"
        "write_report(folders[0])\n"
        "print(len(read_several(folders)), len(render_several(read_several(folders))) > 10000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, thirteen)],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "13 True\n"), done.stderr


def test_a_bar_is_hatched_under_ablation_and_dotted_under_subtraction(
    thirteen: list[Path],
) -> None:
    runs = read_several(thirteen)
    patterns = {}
    for number in (1, 3, 23):
        (chart,) = figure(runs, number).charts
        bars = [trace for trace in chart.figure["data"] if trace["type"] == "bar"]
        patterns[number] = [trace["marker"]["pattern"]["shape"] for trace in bars]
        assert {len(trace["x"]) for trace in bars} == {13}
    assert patterns == {1: ["", "/", "", "/"], 3: ["", "/"], 23: ["", ".", "", "."]}


def test_whiskers_are_the_wilson_interval_and_the_papers_standard_error(
    thirteen: list[Path],
) -> None:
    runs = read_several(thirteen)
    row = rate_rows(FIGURES[0], runs)[0]
    assert row.rate is not None
    share = sum(refuses("harmful", "baseline", index, 0) for index in range(100)) / 100
    assert row.rate.rate == share
    assert row.standard_error == pytest.approx((share * (1 - share) / 100) ** 0.5)
    (chart,) = figure(runs, 1).charts
    bar = chart.figure["data"][0]
    assert bar["error_y"]["array"][0] == pytest.approx(row.rate.high - share)
    assert bar["error_y"]["arrayminus"][0] == pytest.approx(share - row.rate.low)
    (errors,) = [t for t in chart.figure["data"] if t["name"] == "one standard error"]
    assert errors["error_y"]["array"][0] == row.standard_error


def test_the_rates_of_the_reference_runs_stand_beside_the_published_ones(both: Several) -> None:
    rows = rate_rows(FIGURES[0], both)
    assert [run.label for run in both] == ["Qwen 1.8B", "Llama-3 8B"]
    row = row_of(rows, "Llama-3 8B", "safety", "ablation")
    assert (row.paper, row.repository) == (0.15, 0.18)
    assert difference(row, row.paper) == pytest.approx(0.03)
    assert difference(row, row.repository) == pytest.approx(0)
    row = row_of(rows, "Llama-3 8B", "refusal", "ablation")
    assert (row.paper, difference(row, row.paper)) == (0.01, pytest.approx(-0.01))
    for figure_of in FIGURES:
        for row in rate_rows(figure_of, both):
            assert difference(row, row.repository) == pytest.approx(0), row
    assert row_of(rows, "Qwen 1.8B", "refusal", "baseline").paper is None
    (chart,) = figure(both, 1).charts
    (shown,) = [r for r in chart.rows if r[:3] == ("Llama-3 8B", "safety", "ablation")]
    assert shown[-4:] == ("0.15", "+0.03", "0.18", "0.00")
    (shown,) = [r for r in chart.rows if r[:3] == ("Qwen 1.8B", "safety", "ablation")]
    assert shown[-4:] == ("no number", "", "0.18", "0.00")


def test_figure_3_of_the_reference_runs_is_refusal_of_harmless_instructions(
    both: Several,
) -> None:
    rows = [row for row in rate_rows(FIGURES[1], both) if row.rate is not None]
    assert [row.rate.rate for row in rows if row.rate] == [0.03, 0.98, 0.01, 1.0]
    assert [row.repository for row in rows] == [0.03, 0.98, 0.01, 1.0]


@pytest.mark.parametrize(("name", "run"), [(QWEN, 0), (LLAMA, 1)])
def test_figure_11_of_the_reference_runs_is_what_their_code_stored(
    both: Several, reference: Path, name: str, run: int
) -> None:
    stored = json.loads(
        (reference / "paper_runs" / name / "select_direction/direction_evaluations.json").read_text(
            "utf-8"
        )
    )
    bypass, induce = figure(both, 11).charts[2 * run : 2 * run + 2]
    for chart, key in ((bypass, "refusal_score"), (induce, "steering_score")):
        drawn = {
            (int(trace["name"].replace("\N{MINUS SIGN}", "-")), layer): value
            for trace in chart.figure["data"]
            if trace["mode"] == "lines+markers"
            for layer, value in zip(trace["x"], trace["y"], strict=True)
        }
        assert drawn == {(row["position"], row["layer"]): row[key] for row in stored}
    published = bypass.figure["data"][-1]
    assert published["name"] == "published choice"
    expected = {QWEN: (15, -4.415), LLAMA: (12, -9.715)}[name]
    assert (published["x"], published["y"]) == ([expected[0]], [expected[1]])


def test_table_5_of_the_reference_runs_has_the_right_differences(both: Several) -> None:
    table = compared_table(5, both)
    ours = cells(table, "Qwen 1.8B", "ours")
    assert (ours["position"], ours["layer"]) == (-2, 15)
    found = cells(table, "Qwen 1.8B", "difference")
    assert found["position"] == -1
    assert found["layer"] == found["n_layers"] == 0
    assert found["bypass"] == pytest.approx(-5.057485 + 4.415, abs=1e-5)
    assert found["induce"] == pytest.approx(1.651358 - 1.641, abs=1e-5)
    assert found["kl"] == pytest.approx(0.065843 - 0.077, abs=1e-5)
    found = cells(table, "Llama-3 8B", "difference")
    assert found["bypass"] == pytest.approx(-9.855093 + 9.715, abs=1e-5)
    assert found["position"] == 0


def test_table_9_of_the_reference_runs_has_the_right_differences(both: Several) -> None:
    table = compared_table(9, both)
    qwen = cells(table, "Qwen 1.8B", "difference")
    assert qwen["pile_baseline"] == pytest.approx(2.920972 - 2.921, abs=1e-5)
    assert qwen["alpaca_subtraction"] == pytest.approx(2.069994 - 2.038, abs=1e-5)
    assert qwen["on_distribution_baseline"] == pytest.approx(0.476535 - 0.284, abs=1e-5)
    llama = cells(table, "Llama-3 8B", "difference")
    assert llama["pile_ablation"] == pytest.approx(2.363209 - 2.362, abs=1e-5)
    assert llama["on_distribution_subtraction"] == pytest.approx(0.595926 - 0.441, abs=1e-5)


def test_a_table_lists_ours_then_the_published_row_then_the_difference(both: Several) -> None:
    rows = compared_table(5, both).rows
    assert [(r.model, r.source) for r in rows[:4]] == [
        ("Qwen 1.8B", "ours"),
        ("Qwen 1.8B", "published"),
        ("Qwen 1.8B", "difference"),
        ("Qwen 7B", "published"),
    ]
    assert sum(r.source == "published" for r in rows) == 13


def test_every_table_can_be_compared_and_texts_are_the_same_or_differ(
    thirteen: list[Path],
) -> None:
    runs = read_several(thirteen)
    tables = {number: compared_table(number, runs) for number in range(1, 11)}
    assert cells(tables[1], "Gemma 7B", "difference") == {"id": "same", "alignment": "differs"}
    assert cells(tables[1], "Qwen 7B", "difference") == {"id": "same", "alignment": "same"}
    names = [row.model for row in tables[4].rows if row.source == "ours"]
    assert len(names) == 13
    assert not any(row.source == "difference" for row in tables[4].rows)


def test_what_a_run_lacks_is_said_and_never_drawn(bare: Path, thirteen: list[Path]) -> None:
    runs = read_several([bare, thirteen[0]])
    for one in paper_figures(runs):
        assert "my model" in one.absent, one.number
    (chart,) = figure(runs, 1).charts
    assert {len(t["x"]) for t in chart.figure["data"] if t["type"] == "bar"} == {1}
    shown = [row for row in chart.rows if row[0] == "my model"]
    assert [row[3] for row in shown] == ["not measured"] * 4
    page = render_several(runs)
    assert "Not measured in 1 run" in page
    assert "1 of 1 runs (1 not measured)" in page


def test_runs_with_nothing_to_draw_have_a_page_without_charts(bare: Path) -> None:
    page = render_several(read_several([bare]))
    assert '<script type="application/json" id="charts">{}</script>' in page
    assert "0 of 0 runs (1 not measured)" in page


def test_nothing_that_others_wrote_becomes_markup(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path / "run", name=ATTACK, source=ATTACK, n_layers=10)
    page = re.sub(r'id="plotly">[^<]*<', "<", render_several(read_several([folder])))
    assert page.count("<script") == 3
    assert "<img" not in page
    assert "{{ 7*7 }}" in page
    assert "\u202e" not in page


def test_the_page_names_nothing_on_the_network_but_the_paper(thirteen: list[Path]) -> None:
    page = re.sub(r'id="plotly">[^<]*<', "<", render_several(read_several(thirteen)))
    assert set(re.findall(r"https?://[^\s<,]*", page)) == {"https://arxiv.org/abs/2406.11717v3"}
    assert not re.search(r"\bsrc\s*=|url\(|@import|<link|<iframe", page)
    assert set(re.findall(r'href="(.)', page)) == {"#"}


def test_every_part_of_the_page_has_a_name(thirteen: list[Path]) -> None:
    page = re.sub(r'id="plotly">[^<]*<', "<", render_several(read_several(thirteen)))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    assert page.count("<table") == page.count("<caption")
    assert len(re.findall(r'role="img" aria-label="[^"]{30,}"', page)) == page.count("<figure")


def test_a_page_that_exists_is_not_overwritten(thirteen: list[Path], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine", "utf-8")
    with pytest.raises(OutputError, match="exists already"):
        write_several(read_several(thirteen[:1]), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == "mine"


def test_tables_are_written_in_three_formats_with_the_same_bytes_each_time(
    both: Several, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write_tables(both, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 33
    for name in names:
        one, two = (tmp_path / folder / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    rates = (tmp_path / "one" / "figure-1.csv").read_text("utf-8").splitlines()
    assert rates[1].startswith("Qwen 1.8B,refusal,harmful,baseline,0.7,100,0.604")
    assert rates[1].endswith(",,,0.7,0.0")
    losses = (tmp_path / "one" / "table-9.csv").read_text("utf-8").splitlines()
    assert losses[3].startswith("Qwen 1.8B,,difference,qwen-1_8b-chat,-2.8")
