"""docs/scale.md shows what `refusalscope plan` prints."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import call
from transformers import PretrainedConfig

from refusalscope.models.meta_model import MetaModel
from refusalscope.pipeline.plan import plan as planning
from refusalscope.pipeline.plan.measured import Measured

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "tests" / "published_configs"
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```sh\nrefusalscope (plan [^\n]*)\n```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
_BUILT: dict[str, MetaModel] = {}
_MEASURED: dict[str, Measured] = {}
build, measure = planning.meta_model, planning.measure


def build_once(config: PretrainedConfig, dtype: Any, source: str) -> MetaModel:
    if not (CONFIGS / source).is_dir():
        return build(config, dtype, source)
    return _BUILT.setdefault(source, _BUILT.get(source) or build(config, dtype, source))


def measure_once(meta: MetaModel) -> Measured:
    (source,) = (name for name, own in _BUILT.items() if own is meta)
    return _MEASURED.setdefault(source, _MEASURED.get(source) or measure(meta))


def test_the_page_shows_six_plans() -> None:
    assert len(SHOWN) == 6


@pytest.mark.parametrize(("command", "printed"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_table_of_the_page_is_what_the_command_prints(
    command: str,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(CONFIGS)
    monkeypatch.setattr(planning, "meta_model", build_once)
    monkeypatch.setattr(planning, "measure", measure_once)
    called = call(monkeypatch, capsys, *shlex.split(command))
    assert called.status == 0, called
    assert called.out == printed
