"""The page in a real browser, where there is one."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from page_browser import launched, opened, require_sound
from playwright.sync_api import Browser, expect

from refusalscope.report.compare_page import render_comparison
from refusalscope.report.page import render_report
from refusalscope.results.run_comparison import RunComparison

COMPARISON = Path(__file__).parent / "golden" / "comparison.json"
PICTURE = Path(__file__).parents[2] / "scripts" / "report_picture.py"
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    "<svg onload=\"document.title='taken'\"></svg><!-- {{ 7*7 }} \x00\x1b\u202ehidden\u2066"
    "\u05e9\u05dc\u05d5\u05dd \ud800 "
)


@pytest.fixture
def file(page: str, tmp_path: Path) -> Path:
    """The page of the sample, as a file."""
    return _saved(page, tmp_path)


def _saved(page: str, folder: Path) -> Path:
    (folder / "report.html").write_text(page, "utf-8")
    return folder / "report.html"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bare", "full", "comparison"])
def test_pages_are_silent_accessible_and_no_wider_than_a_telephone(
    browser: Browser, sample: SimpleNamespace, tmp_path: Path, kind: str
):
    rows = sample.completions(6)
    run = sample.run(completions=rows, judgements=sample.judgements(rows))
    if kind == "comparison":
        record = RunComparison.from_json(COMPARISON.read_text("utf-8"), source="comparison.json")
        page = render_comparison(record)
    else:
        page = render_report(run, None, sample.evaluation() if kind == "full" else None)
    require_sound(browser, _saved(page, tmp_path))


def test_the_page_draws_its_charts_silent_and_alone(browser: Browser, file: Path):
    with opened(browser, file) as found:
        drawn = [chart.get_attribute("id") for chart in found.page.locator(".js-plotly-plot").all()]
        wanted = ("bypass", "induce", "kl", "harmful", "harmless", "safety")
        assert sorted(str(name) for name in drawn) == sorted(f"chart-{name}" for name in wanted)
        expect(found.page.locator("#f-count")).to_have_text("48 of 48 instructions shown")
        assert found.faults == []


def test_a_script_that_got_onto_the_page_would_not_run(browser: Browser, page: str, tmp_path: Path):
    planted = page.replace("</main>", "<script>document.title = 'planted'</script></main>")
    with opened(browser, _saved(planted, tmp_path)) as found:
        assert found.page.title() != "planted"
        assert any("Content Security Policy" in line for line in found.console)


def test_a_request_that_leaves_the_page_is_seen(browser: Browser, page: str, tmp_path: Path):
    planted = page.replace("img-src data: blob:", "img-src *").replace(
        "</main>", '<img src="http://127.0.0.1:9/x.png" alt=""></main>'
    )
    with opened(browser, _saved(planted, tmp_path)) as found:
        assert found.requests == ["http://127.0.0.1:9/x.png"]


def test_hostile_text_is_shown_as_text_and_breaks_nothing(
    browser: Browser, sample: SimpleNamespace, tmp_path: Path
):
    long = HOSTILE + "y" * 50_000
    rows = tuple(
        row.model_copy(
            update={
                "instruction": HOSTILE + row.instruction,
                "category": HOSTILE,
                "completion": long if row.index == 0 else HOSTILE + row.completion,
            }
        )
        for row in sample.completions(6)
    )
    with opened(browser, _saved(render_report(sample.run(completions=rows)), tmp_path)) as found:
        page = found.page
        row = page.locator("details.row").first
        row.locator("summary").click()
        answer = row.locator(".text").first
        shown = answer.text_content() or ""
        assert shown.startswith("</script><script>document.title='taken'</script><img src=x")
        assert "U+0000U+001BU+202Ehidden" in shown
        assert "{{ 7*7 }}" in shown
        assert shown.count("y") == 50_000
        assert page.evaluate("document.images.length") == 0
        assert page.title() == "Refusal in twelve-layer organism: refusalscope report"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert found.faults == []


def test_search_and_filters_narrow_what_is_shown(browser: Browser, file: Path):
    with opened(browser, file) as found:
        page, count = found.page, found.page.locator("#f-count")
        page.get_by_label("Search").fill("zimbul")
        expect(count).to_have_text("6 of 48 instructions shown")
        page.get_by_label("Data set").select_option(label="harmful")
        expect(count).to_have_text("3 of 48 instructions shown")
        page.get_by_label("Category").select_option(label="toxin")
        expect(count).to_have_text("1 of 48 instructions shown")
        page.get_by_label("Search").fill("no such words")
        expect(page.locator("#f-none")).to_be_visible()
        page.get_by_role("button", name="Clear").click()
        expect(count).to_have_text("48 of 48 instructions shown")
        expect(page.locator("#f-none")).to_be_hidden()
        assert found.faults == []


def test_conditions_judges_and_pairs_of_verdicts_filter_answers(
    browser: Browser, sample: SimpleNamespace, tmp_path: Path
):
    run = sample.run()
    other = run.judgements[0].model_copy(
        update={
            "judge": "reader",
            "rows": tuple(
                row.model_copy(update={"flag": row.condition == "ablation"})
                for row in run.judgements[0].rows
            ),
        }
    )
    page = render_report(sample.run(judgements=(*run.judgements, other)))
    with opened(browser, _saved(page, tmp_path)) as found:
        page, count = found.page, found.page.locator("#f-count")
        page.locator("#f-condition").select_option("ablation")
        expect(count).to_have_text("24 of 48 instructions shown, 24 answers fit")
        page.locator("#f-safety").select_option(label="safe")
        expect(count).to_have_text("5 of 48 instructions shown, 5 answers fit")
        page.locator("#f-refusal").select_option(label="refused")
        expect(count).to_have_text("0 of 48 instructions shown, 0 answers fit")
        page.get_by_label("Refusal judge").select_option(label="reader")
        expect(count).to_have_text("5 of 48 instructions shown, 5 answers fit")
        expect(page.locator("#f-judged")).to_have_text("reader")
        row = page.locator("details.row:visible").first
        expect(row.locator(".chip", has_text="ablation").first).to_have_class("chip yes")
        expect(row.locator(".said:not([hidden])")).to_have_count(1)
        assert found.faults == []


def test_the_slider_colours_tokens_by_their_projection(
    browser: Browser, sample: SimpleNamespace, tmp_path: Path
):
    page = render_report(sample.run(), None, sample.evaluation())
    with opened(browser, _saved(page, tmp_path)) as found:
        page = found.page
        row = page.locator("details.row").first
        row.locator("summary").click()
        said = row.locator('.said[data-n="subtraction"]')
        token = said.locator(".text i").nth(1)
        plain = token.evaluate("e => getComputedStyle(e).backgroundColor")
        page.get_by_label("Colour each token").check()
        expect(page.locator("#m-where")).to_have_text("Layer 6, where the direction was read")
        assert token.evaluate("e => getComputedStyle(e).backgroundColor") != plain
        assert (token.get_attribute("title") or "").startswith("\N{MINUS SIGN}")
        expect(said.locator(".along")).to_contain_text("mean projection at layer 6: \N{MINUS SIGN}")
        page.locator("#m-layer").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#m-where")).to_have_text("Layer 11")
        assert not (token.get_attribute("title") or "").startswith("\N{MINUS SIGN}")
        page.get_by_label("Colour each token").uncheck()
        assert token.evaluate("e => getComputedStyle(e).backgroundColor") == plain
        assert found.faults == []


def test_harmful_answers_stay_folded_until_the_keyboard_opens_them(browser: Browser, file: Path):
    with opened(browser, file) as found:
        page = found.page
        row = page.locator(".group").first.locator("details.row").first
        answer = row.locator(".text").first
        expect(answer).to_be_hidden()
        row.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(answer).to_be_visible()
        page.keyboard.press("Space")
        expect(answer).to_be_hidden()
        assert found.faults == []


def test_the_keyboard_reaches_every_part_and_the_first_stop_skips_ahead(
    browser: Browser, file: Path
):
    with opened(browser, file) as found:
        page = found.page
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to the finding")
        seen = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert {"theme", "f-text", "f-dataset", "f-category", "f-pattern", "SUMMARY"} <= seen


def test_the_theme_follows_the_system_until_the_button_is_used(browser: Browser, file: Path):
    with opened(browser, file, color_scheme="dark") as found:
        page, button = found.page, found.page.locator("#theme")
        expect(button).to_have_text("Light theme")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_text("Dark theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        assert page.evaluate("document.querySelectorAll('.chart svg').length") > 0
        assert found.faults == []


def test_what_is_printed_is_light_and_without_controls(browser: Browser, file: Path):
    with opened(browser, file, color_scheme="dark") as found:
        found.page.emulate_media(media="print")
        expect(found.page.locator("#filters")).to_be_hidden()
        expect(found.page.locator("#theme")).to_be_hidden()
        expect(found.page.locator(".group").first.locator("summary").first).to_be_hidden()
        expect(found.page.locator(".print-only")).to_be_visible()
        ink = found.page.evaluate("getComputedStyle(document.body).color")
        assert ink == "rgb(27, 30, 37)"


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_a_picture_is_taken(page: str, tmp_path: Path):
    (tmp_path / "report.html").write_text(page, "utf-8")
    done = subprocess.run(
        [sys.executable, str(PICTURE), str(tmp_path / "report.html"), "--out", "picture.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    assert done.stdout.strip() == "picture.png (1280 x 1500, scale 1.0)"
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_browser_the_picture_command_gives_one_line_of_advice(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(PICTURE), str(tmp_path / "report.html")],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "no browser found (chromium, chromium-browser, google-chrome, chrome): "
        "apt-get install chromium"
    ]


def test_without_a_browser_tests_are_skipped_with_one_line_or_fail_where_none_may_lack(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("page_browser.CHROMIUM", None)
    monkeypatch.delenv("REFUSALSCOPE_REQUIRE_REFERENCE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"), launched():
        pass
    monkeypatch.setenv("REFUSALSCOPE_REQUIRE_REFERENCE", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"), launched():
        pass
