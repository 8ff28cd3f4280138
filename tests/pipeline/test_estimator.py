"""A run with another estimator: its candidates, its record, and runs that were made before."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_tiny
from tiny_runs import instruction_files, tiny_options

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.errors import RunFolderError
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.run_records import read_run


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder = tmp_path_factory.mktemp("given")
    instruction_files(folder)
    return tiny_options(folder, save_tiny(folder / "tiny"))


def test_selection_runs_on_the_estimators_candidates_and_the_plain_ones_are_kept(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(given.model_copy(update={"estimator": "discriminant"}), out, until="select")
    tensors = load_file(out / "directions" / "mean_differences.safetensors")
    plain = difference_in_means(
        harmful=tensors["harmful_means"], harmless=tensors["harmless_means"]
    )
    assert tensors["mean_differences"].equal(plain)
    records = read_run(out)
    assert records.direction is not None
    site = (records.direction.position, records.direction.layer)
    vector = load_file(out / "selection" / "direction.safetensors")["direction"]
    assert vector.equal(tensors["candidates"][site].float())
    assert torch.cosine_similarity(vector, plain[site].float(), dim=0) < 0.999
    assert records.direction.norm == pytest.approx(vector.norm().item(), rel=1e-6)
    assert records.extraction is not None
    assert records.extraction.estimator == "discriminant"
    assert json.loads((out / "run.json").read_text())["options"]["estimator"] == "discriminant"
    assert "--estimator discriminant" in records.manifest.command
    before = (out / "selection" / "direction.safetensors").read_bytes()
    (out / "selection" / "scores.json").unlink()
    run(given.model_copy(update={"estimator": "discriminant"}), out, until="select")
    assert (out / "selection" / "direction.safetensors").read_bytes() == before
    with pytest.raises(RunFolderError, match="option estimator was 'discriminant', now None"):
        run(given, out, until="select")


def test_a_run_by_difference_in_means_says_nothing_of_it_so_that_older_runs_go_on(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(given, out, until="select")
    manifest = json.loads((out / "run.json").read_text())
    assert "estimator" not in manifest["options"]
    tensors = load_file(out / "directions" / "mean_differences.safetensors")
    assert sorted(tensors) == ["harmful_means", "harmless_means", "mean_differences"]
    stages = read_run(out).manifest.stages
    extraction = json.loads((out / "directions" / "extraction.json").read_text())
    del extraction["estimator"]
    (out / "directions" / "extraction.json").write_text(json.dumps(extraction))
    records = read_run(out)
    assert records.extraction is not None
    assert records.extraction.estimator == "difference_in_means"
    run(given, out, until="complete")
    assert {name: read_run(out).manifest.stages[name] for name in stages} == stages
