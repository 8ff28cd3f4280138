"""Take a picture of a report with headless Chromium, for the README.

python scripts/report_picture.py runs/demo/report.html --out docs/report.png
python scripts/report_picture.py runs/demo/report.html --out dark.png --dark --width 400
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def main() -> int:
    """Take the picture; 0 where it was written, 2 with one line of advice where not."""
    options = _options()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        return _advise(f"no browser found ({', '.join(BROWSERS)}): apt-get install chromium")
    if not options.report.is_file():
        return _advise(f"{options.report} does not exist: give the path of a report.html")
    picture = options.out.resolve()
    picture.parent.mkdir(parents=True, exist_ok=True)
    before = picture.stat().st_mtime_ns if picture.exists() else None
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser,
                *FLAGS,
                f"--user-data-dir={profile}",
                f"--window-size={options.width},{options.height}",
                f"--force-device-scale-factor={options.scale}",
                "--virtual-time-budget=10000",
                f"--screenshot={picture}",
                options.report.resolve().as_uri() + ("#dark" if options.dark else ""),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
    if done.returncode or not picture.exists() or picture.stat().st_mtime_ns == before:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return _advise(f"{browser} took no picture: {reason}")
    print(f"{options.out} ({options.width} x {options.height}, scale {options.scale})")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="a report.html")
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"), help="the picture")
    parser.add_argument("--width", type=int, default=1280, help="width of the window")
    parser.add_argument("--height", type=int, default=1500, help="height of the window")
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels per pixel")
    parser.add_argument("--dark", action="store_true", help="the dark theme")
    return parser.parse_args()


def _advise(text: str) -> int:
    print(text, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
