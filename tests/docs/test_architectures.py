"""docs/architectures.md says what the code finds."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
FAMILIES = [
    "bloom",
    "cohere2",
    "deepseek_v3",
    "doge",
    "falcon",
    "falcon_h1",
    "gemma2",
    "gemma4_text",
    "gpt2",
    "gpt_oss",
    "granitemoehybrid",
    "llama",
    "mixtral",
    "olmo2",
    "opt",
    "qwen3_next",
    "xglm",
]
same_transformers = pytest.mark.skipif(
    f"transformers {transformers.__version__};" not in PAGE,
    reason="the page was written with another version of transformers",
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "architectures", ROOT / "scripts" / "architectures.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["architectures"] = module
    spec.loader.exec_module(module)
    return module


@same_transformers
@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_row_of_the_page_is_what_the_code_finds(script: ModuleType, model_type: str) -> None:
    torch.set_num_threads(1)
    found = script.examine(model_type, script.causal_lm_classes()[model_type])
    assert found.row in PAGE.splitlines()


@same_transformers
@pytest.mark.slow
def test_the_whole_page_is_what_the_command_writes(script: ModuleType) -> None:
    assert script.main(["--check"]) == 0


@same_transformers
def test_the_page_has_a_row_for_every_architecture(script: ModuleType) -> None:
    rows = re.findall(r"^\| (\S+) \| \w+ \|", PAGE, flags=re.MULTILINE)
    assert sorted(rows) == sorted(script.causal_lm_classes())


def test_at_least_eighty_architectures_hold() -> None:
    holds = PAGE.partition("## Holds")[2].partition("## Refused")[0]
    rows = re.findall(r"^\| (\S+) \| \w+ \|.*< 1e-6 \|$", holds, flags=re.MULTILINE)
    assert len(rows) >= 80
    for trait in (
        "fused experts",
        "parallel attention",
        "sandwich norms",
        "several embeddings",
        "biases",
        "mixers beside attention",
    ):
        assert re.search(rf"^- {re.escape(trait)} \(([5-9]|\d\d+)\): ", holds, flags=re.MULTILINE)
