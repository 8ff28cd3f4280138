"""The page in a real browser, where there is one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from refusalscope.report.page import render_report

CHROMIUM = shutil.which("chromium")
PICTURE = Path(__file__).parents[2] / "scripts" / "report_picture.py"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=10000",
    "--enable-logging=stderr",
    "--dump-dom",
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def _open(page: str, folder: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what they wrote to the console."""
    file = folder / "report.html"
    file.write_text(page, "utf-8")
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@needs_browser
def test_the_page_draws_its_charts_and_the_console_stays_silent(
    sample: SimpleNamespace, tmp_path: Path
):
    document, console = _open(render_report(sample.run()), tmp_path)
    assert console == []
    for name in ("bypass", "induce", "kl", "harmful", "harmless", "safety"):
        assert re.search(
            rf'id="chart-{name}"[^>]*class="[^"]*js-plotly-plot', document
        ) or re.search(rf'class="[^"]*js-plotly-plot[^"]*" id="chart-{name}"', document)
    assert "48 of 48 instructions shown" in document


@pytest.mark.slow
@needs_browser
def test_a_script_that_got_onto_the_page_would_not_run(page: str, tmp_path: Path):
    planted = page.replace("</main>", "<script>document.title = 'planted'</script></main>")
    document, console = _open(planted, tmp_path)
    assert "<title>planted" not in document
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.slow
@needs_browser
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
