"""Hardening: what is tuned under what, cut and gone on with, and what the rank curve says of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_tiny
from tiny_runs import finish_run, instruction_files

from refusalscope.directions.direction import load_direction
from refusalscope.errors import InputError
from refusalscope.measures.ladder.record import LadderOptions, Rung
from refusalscope.organisms import fit as fitting
from refusalscope.organisms.organism import read_organism
from refusalscope.pipeline import harden as hardening
from refusalscope.pipeline.harden import harden
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.pipeline.session import open_session
from refusalscope.results.harden_records import Hardening, HardenOptions
from refusalscope.results.measures import measure_named
from refusalscope.results.records import Summary
from refusalscope.results.run_records import SUMMARY, read_record


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the bundled organism that has come to its direction."""
    out = tmp_path_factory.mktemp("organism") / "run"
    run(RunOptions(n_train=24, n_val=8, n_test=4), out, until="select")
    return out


def hardened(folder: Path, out: Path, **options: object) -> Hardening:
    asked = HardenOptions.model_validate({"steps": 6, "every": 2, **options})
    with open_session(folder) as session:
        return harden(session, asked, out)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", ["plain", "ablated", "reextracted", "backup", "subspace"])
def test_every_method_leaves_an_organism_that_says_how_it_was_made(
    selected: Path, tmp_path: Path, method: str
) -> None:
    record = hardened(selected, tmp_path / "out", method=method)
    facts = read_organism(tmp_path / "out")
    assert facts is not None
    assert facts.name == f"llama3-aft-{method}"
    assert facts.stages["hardened"] == 6
    assert record == read_record(Hardening, tmp_path / "out" / "hardening.json")
    assert (record.n_ablated > 0) == (method != "plain")
    # Read before steps 2 and 4, from a model that has hardly moved.
    assert len(record.cosines) == (2 if method in ("reextracted", "subspace") else 0)
    assert all(cosine > 0.9 for cosine in record.cosines)
    assert not list(tmp_path.glob(".out*"))


def test_the_methods_tune_differently(selected: Path, tmp_path: Path) -> None:
    for method in ("plain", "ablated", "backup"):
        hardened(selected, tmp_path / method, method=method, steps=3)
    plain, ablated, backup = (weights(tmp_path / name) for name in ("plain", "ablated", "backup"))
    for one, other in ((plain, ablated), (ablated, backup)):
        assert any(not torch.equal(one[name], other[name]) for name in one)


def test_cut_and_started_again_it_ends_with_the_same_bytes(
    selected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_STEPS_BETWEEN_STATES", 3)
    hardened(selected, tmp_path / "whole")
    done = fitting._loss

    def cut(*given: object, calls: list[int] = []) -> torch.Tensor:  # noqa: B006
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return done(*given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(fitting, "_loss", cut)
    with pytest.raises(KeyboardInterrupt):
        hardened(selected, tmp_path / "cut")
    monkeypatch.setattr(fitting, "_loss", done)
    hardened(selected, tmp_path / "cut")
    for name in ("model.safetensors", "hardening.json", "organism.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_model_that_is_no_organism_has_nothing_to_be_tuned_on(
    tmp_path: Path,
) -> None:
    save_tiny(tmp_path / "tiny", max_position_embeddings=1024)
    instruction_files(tmp_path)
    folder = finish_run(tmp_path, tmp_path / "tiny", tmp_path / "run")
    with pytest.raises(InputError, match="is no organism; only they bring the exchanges"):
        hardened(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_subspace_is_read_one_direction_after_the_other(
    selected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[torch.Tensor] = []
    plain = hardening.without_span

    def noted(model: object, anatomy: object, basis: torch.Tensor) -> object:
        removed.append(basis)
        return plain(model, anatomy, basis)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(hardening, "without_span", noted)
    hardened(selected, tmp_path / "out", method="subspace", steps=8, rank=3, every=4)
    read = [basis for basis in removed if basis.requires_grad is False]
    sizes = [len(basis) for basis in read]
    assert {0, 1, 2} <= set(sizes) <= {0, 1, 2, 3}  # read with none, one and two removed
    for basis in read:
        torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_second_direction_takes_over_and_the_rank_curve_needs_two(
    selected: Path, tmp_path: Path
) -> None:
    with open_session(selected) as session:
        harden(session, HardenOptions(method="backup"), tmp_path / "backup")
    folder = tmp_path / "run"
    run(RunOptions(model=str(tmp_path / "backup"), n_test=50), folder)
    with open_session(folder) as session:
        rungs = ("baseline", "rank_1", "rank_2", "rank_4")
        found = measure(session, measure_named("ladder"), LadderOptions(rungs=rungs))
    refused = {
        rung.name: rung.refused.rate
        for rung in found
        if isinstance(rung, Rung) and rung.refused is not None
    }
    assert refused["baseline"] >= 0.98
    assert refused["rank_1"] > 0.5  # one direction is not enough
    assert refused["rank_2"] < 0.5  # two are
    assert refused["rank_4"] <= 0.1
    summary = read_record(Summary, folder / SUMMARY)
    assert summary.refusal["harmless"]["baseline"].rate <= 0.05
    assert summary.refusal["harmful"]["random_ablation"].rate >= 0.9
    assert load_direction(folder).layer is not None
