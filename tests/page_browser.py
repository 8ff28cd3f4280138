"""Pages of the report in headless Chromium, driven by Playwright, and what every page must hold."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"]
_UNFOLD = """document.querySelectorAll('details:not(.row), .group > .row:first-of-type')
    .forEach(one => { one.open = true; })"""
_SERIOUS = ("serious", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A page in the browser, and what it did that a page must not do."""

    page: Page
    console: list[str] = field(default_factory=list)
    """Warnings, errors and exceptions."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for, but for the file itself and what the page holds inside."""

    @property
    def faults(self) -> list[str]:
        """What was written to the console, and what tried to leave the page."""
        return [*self.console, *self.requests]


def require_chromium() -> None:
    """Skip the test where there is no browser, or fail it where none may lack."""
    if CHROMIUM is None:
        reason = "chromium is not installed (apt-get install chromium)"
        if os.environ.get("REFUSALSCOPE_REQUIRE_REFERENCE") == "1":
            pytest.fail(f"{reason}, and REFUSALSCOPE_REQUIRE_REFERENCE=1 asks for it")
        pytest.skip(reason)


@contextmanager
def launched() -> Generator[Browser]:
    """The browser; see `require_chromium`."""
    require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, **context: Any) -> Generator[Opened]:
    """A page opened from its file, its charts drawn.

    Args:
        context: As playwright's `new_context` takes it: `viewport`, `color_scheme`.
    """
    around = browser.new_context(**context)
    found = Opened(page=around.new_page())
    own = file.resolve().as_uri()
    found.page.on(
        "console",
        lambda message: (
            found.console.append(message.text) if message.type in ("warning", "error") else None
        ),
    )
    found.page.on("pageerror", lambda error: found.console.append(str(error)))
    found.page.on(
        "request",
        lambda request: (
            None
            if request.url.split("#")[0] == own or request.url.startswith(("data:", "blob:"))
            else found.requests.append(request.url)
        ),
    )
    found.page.goto(own)
    wait_for_charts(found.page)
    yield found
    around.close()


def wait_for_charts(page: Page) -> None:
    """Until every chart is drawn."""
    page.wait_for_function(
        "Array.from(document.querySelectorAll('.chart')).every(c => c.querySelector('svg'))"
    )


def violations(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical, with where it is first found."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']} ({len(one['nodes'])} times, first {one['nodes'][0]['html']})"
        for one in found
        if one["impact"] in _SERIOUS
    ]


def require_sound(browser: Browser, file: Path) -> None:
    """What every page holds: silent, alone, accessible in both themes, no wider than its window.

    Axe looks with everything that folds opened, of rows of completions the first of each group.
    """
    for scheme in ("light", "dark"):
        with opened(browser, file, color_scheme=scheme) as found:
            found.page.evaluate(_UNFOLD)
            assert violations(found.page) == [], scheme
            assert found.faults == []
    with opened(browser, file, viewport={"width": 390, "height": 800}) as found:
        assert found.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert found.faults == []
