"""`configs/` says what the package holds of the paper's thirteen models."""

from pathlib import Path

import pytest
from tiny_runs import Caller

from refusalscope.cli import run as run_command
from refusalscope.models.families import FAMILIES, PAPER_MODELS, PaperModel
from refusalscope.pipeline.options import LimitOptions, RunOptions
from refusalscope.results.published import paper_model_name, published_table

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def file_of(model: PaperModel) -> Path:
    return CONFIGS / f"{model.name.lower().replace(' ', '-')}.toml"


def cell(table: int, row: str, column: str) -> object:
    (found,) = (r for r in published_table(table).rows if r.model == row)
    value = found.values[column]
    assert value is not None
    return value.value


def test_there_is_a_file_for_each_of_the_thirteen_models_and_no_other() -> None:
    assert sorted(CONFIGS.iterdir()) == sorted(map(file_of, PAPER_MODELS))
    assert len(PAPER_MODELS) == 13


@pytest.mark.parametrize("model", PAPER_MODELS, ids=lambda model: model.name)
def test_each_file_is_the_papers_setting_as_the_package_holds_it(
    refusalscope: Caller, monkeypatch: pytest.MonkeyPatch, model: PaperModel
) -> None:
    seen: list[RunOptions] = []
    monkeypatch.setattr(run_command, "_run", lambda options, _out, **_kwargs: seen.append(options))
    assert refusalscope("run", "--config", file_of(model)).status == 0
    (options,) = seen
    family = FAMILIES[model.family]
    ids = [int(token) for token in str(cell(4, model.family, "ids")).split(",")]
    assert options == RunOptions(
        model=model.hub_id,
        dtype=model.dtype,
        device="spread" if float(model.name.split()[-1].removesuffix("B")) > 14 else "auto",
        template="paper",
        refusal_tokens=tuple(map(str, family.refusal_tokens)),
        label="metric",
        max_new_tokens=512,
        paper_generation=True,
        all_scores=True,
        limits=LimitOptions(rule="code", min_induce=0.0),
    )
    assert ids == list(family.refusal_tokens)
    assert paper_model_name(options.model) == model.name
    assert (options.n_train, options.n_val, options.n_test) == (128, 32, 100)
    assert not options.trust_remote_code


@pytest.mark.parametrize("model", PAPER_MODELS, ids=lambda model: model.name)
def test_each_file_names_the_model_and_the_direction_that_the_paper_chose(
    model: PaperModel,
) -> None:
    row = {
        name: cell(5, model.name, name)
        for name in ("position", "layer", "n_layers", "bypass", "induce", "kl")
    }
    text = file_of(model).read_text(encoding="utf-8")
    assert text.startswith(f"# {model.name} as in Arditi et al. (2024)")
    assert (
        f"# Chosen in the paper (Table 5): position {row['position']}, layer {row['layer']} of "
        f"{row['n_layers']}; bypass {row['bypass']}, induce {row['induce']}, KL {row['kl']}.\n"
    ) in text
    assert f"--config configs/{file_of(model).name} " in text
    assert ("give --trust-remote-code too" in text) == (model.family == "Qwen")
