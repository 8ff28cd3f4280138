"""The page of several runs in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_browser import launched, opened, require_sound, wait_for_charts
from playwright.sync_api import Browser
from runs_on_disk import write_made_up_run, write_the_papers_models

from refusalscope.report.several_files import write_several
from refusalscope.report.several_runs import read_several

pytestmark = pytest.mark.slow
ATTACK = "</script><img src=x onerror=alert(1)>\u202e" + "y" * 300


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One run with a hostile name, then the thirteen."""
    folder = tmp_path_factory.mktemp("several")
    hostile = write_made_up_run(folder / "hostile", name=ATTACK, source=ATTACK, n_layers=12)
    return [hostile, *write_the_papers_models(folder)]


@pytest.fixture
def file(runs: list[Path], tmp_path: Path) -> Path:
    write_several(read_several(runs), tmp_path / "page.html")
    return tmp_path / "page.html"


def test_the_page_of_several_runs_is_accessible_silent_and_no_wider_than_a_telephone(
    browser: Browser, runs: list[Path], tmp_path: Path
) -> None:
    write_several(read_several(runs[:2]), tmp_path / "page.html")
    require_sound(browser, tmp_path / "page.html")


def test_every_chart_is_drawn_and_drawn_anew_in_the_other_theme(
    browser: Browser, file: Path
) -> None:
    with opened(browser, file, color_scheme="light") as found:
        n_charts = found.page.locator(".chart").count()
        assert n_charts == 3 + 14 * 6
        found.page.locator("#theme").click()
        wait_for_charts(found.page)
        assert found.page.locator("html").get_attribute("data-theme") == "dark"
        assert found.page.locator(".chart .main-svg").count() >= n_charts
        assert found.faults == []


def test_hatching_is_drawn(browser: Browser, file: Path) -> None:
    with opened(browser, file) as found:
        assert found.page.locator("#figure-1 pattern").count() >= 2
        assert found.page.locator("#figure-23 pattern").count() >= 2
