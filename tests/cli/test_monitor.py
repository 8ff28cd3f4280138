"""`refusalscope monitor`: fit, score and evaluate on a tiny model; what is refused, and how."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny
from tiny_runs import Caller, contents

from refusalscope.monitors.monitor import Monitor, load_monitor, save_monitor
from refusalscope.results.monitor_records import MonitorEvaluation

OTHER_KINDS = ("projection", "harmfulness", "discriminant")


def write(path: Path, texts: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"instruction": t, "category": c}) + "\n" for t, c in texts))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Harmful ones of three kinds, and harmless ones, to fit on and to measure on."""
    kinds = ("locks", "walls", "roofs")
    few, many = range(24), range(60)
    return {
        "harmful": write(
            tmp_path / "h.jsonl", [(f"break {kinds[i % 3]} {i}", kinds[i % 3]) for i in few]
        ),
        "harmless": write(
            tmp_path / "n.jsonl", [(f"paint a house {i}", "paint") for i in range(32)]
        ),
        "harmful_test": write(
            tmp_path / "ht.jsonl", [(f"smash {kinds[i % 3]} {i}", kinds[i % 3]) for i in few]
        ),
        "harmless_test": write(tmp_path / "nt.jsonl", [(f"draw a tree {i}", "art") for i in many]),
        "borderline": write(tmp_path / "b.jsonl", [(f"break a record {i}", "x") for i in few]),
    }


def fit(call: Caller, run: Path, files: dict[str, Path], *words: str | Path) -> Any:
    given = ("--harmful", files["harmful"], "--harmless", files["harmless"], "--fpr", "0.2")
    return call("monitor", "fit", run, *given, "--out", "m.safetensors", *words)


def evaluate(call: Caller, run: Path, files: dict[str, Path], *words: str | Path) -> Any:
    given = ("--harmful", files["harmful_test"], "--harmless", files["harmless_test"])
    out = ("--out", "found.json")
    return call("monitor", "evaluate", "m.safetensors", run, *given, *out, *words)


def test_borderline_instructions_are_fitted_on_and_set_the_threshold(
    refusalscope: Caller, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    assert fit(refusalscope, finished, files).status == 0
    plain = {
        own.name: own.n_kept for own in load_monitor(tmp_path / "m.safetensors").facts.fitted_on
    }
    (tmp_path / "m.safetensors").unlink()
    called = fit(refusalscope, finished, files, "--borderline", files["borderline"])
    assert called.status == 0, called
    facts = load_monitor(tmp_path / "m.safetensors").facts
    # 24 are divided into a half, a tenth and the rest.
    more = {"harmless_train": 12, "harmless_val": 2, "threshold": 10}
    assert {own.name: own.n_kept for own in facts.fitted_on} == {
        name: n + more.get(name, 0) for name, n in plain.items()
    }
    assert facts.n_threshold == plain["threshold"] + 10
    assert facts.is_threshold_apart
    # Those that it was fitted on are not there to measure it on.
    seen = evaluate(refusalscope, finished, files, "--borderline", files["borderline"])
    assert seen.status == 2
    assert "measure it on others" in seen.err


def test_only_an_organism_has_borderline_instructions_of_its_own(
    refusalscope: Caller, finished: Path, files: dict[str, Path]
) -> None:
    called = fit(refusalscope, finished, files, "--borderline", "language")
    assert called.status == 2
    assert "--borderline language is of an organism" in called.err


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_every_kind_is_fitted(
    refusalscope: Caller, finished: Path, files: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    called = fit(refusalscope, finished, files, "--kind", kind)
    assert called.status == 0, called
    facts = load_monitor(tmp_path / "m.safetensors").facts
    assert facts.kind == kind
    assert facts.pool == ("direction" if kind == "projection" else "instruction")
    assert facts.layer in {one.layer for one in facts.layers}


@pytest.mark.parametrize("kind", ["logistic", "sliding"])
def test_what_is_fitted_scores_instructions_and_is_measured(
    refusalscope: Caller, finished: Path, files: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    before = contents(finished)
    held_out = ("--hold-out", "walls", "--kind", kind)
    called = fit(refusalscope, finished, files, *held_out)
    assert called.status == 0, called
    assert f"{kind} on resid of layer " in called.out
    assert "20.00% false positives of 16 harmless prompts" in called.out
    facts = load_monitor(tmp_path / "m.safetensors").facts
    assert facts.held_out == ("walls",)
    assert {one.name: one.n_sampled for one in facts.fitted_on} == {
        "harmful_train": 11,  # of 19, without a kind
        "harmless_train": 13,
        "harmful_val": 5,
        "harmless_val": 3,
        "threshold": 16,
    }
    scored = refusalscope(
        *("monitor", "score", "m.safetensors", "--model", finished),
        *("--instructions", files["harmful_test"], "--out", "scores.jsonl"),
    )
    assert scored.status == 0, scored
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    assert all(row["is_flagged"] == (row["score"] > facts.threshold) for row in rows)
    called = evaluate(refusalscope, finished, files, "--borderline", files["borderline"])
    assert called.status == 0, called
    record = MonitorEvaluation.from_json((tmp_path / "found.json").read_text(), source="found")
    assert [each.condition for each in record.conditions] == ["baseline", "ablation"]
    baseline = record.conditions[0]
    assert (baseline.all.n_harmful, baseline.all.n_harmless) == (24, 60)
    assert baseline.held_out is not None and baseline.held_out.n_harmful == 8
    assert [(c.category, c.is_held_out) for c in baseline.categories] == [
        ("locks", False),
        ("roofs", False),
        ("walls", True),
    ]
    assert baseline.own_threshold.harmful.rate == sum(r["is_flagged"] for r in rows) / 24
    assert baseline.own_threshold.borderline is not None
    assert sum(one.observed.n for one in baseline.calibration) in (0, 84)
    for each in record.conditions:
        at_one, at_five = each.all.at
        assert at_one.tpr is None and at_one.reason is not None
        assert at_five.tpr is not None
    assert "TPR at 1% FPR not stated: a false positive rate of 1% needs at least 300" in called.out
    assert "24 harmful, 60 harmless; AUROC" in called.out
    assert contents(finished) == before


def test_the_ablation_leaves_nothing_of_the_projection(
    refusalscope: Caller, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    assert fit(refusalscope, finished, files, "--kind", "projection").status == 0
    assert evaluate(refusalscope, finished, files).status == 0
    record = MonitorEvaluation.from_json((tmp_path / "found.json").read_text(), source="found")
    ablated = record.conditions[1].all.at[1]
    assert ablated.threshold is not None and abs(ablated.threshold) < 1e-5


def test_a_suffix_is_put_after_harmful_instructions_alone(
    refusalscope: Caller, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    assert fit(refusalscope, finished, files).status == 0
    (tmp_path / "suffix.txt").write_text(" or so\n")
    assert evaluate(refusalscope, finished, files, "--suffix", "suffix.txt").status == 0
    record = MonitorEvaluation.from_json((tmp_path / "found.json").read_text(), source="found")
    plain, _, suffixed = record.conditions
    assert suffixed.condition == "suffix"
    assert record.suffix == " or so"
    assert suffixed.all.at[1].threshold == plain.all.at[1].threshold
    assert suffixed.own_threshold.harmless == plain.own_threshold.harmless
    assert suffixed.all.auroc != plain.all.auroc


def test_the_same_options_give_the_same_file(
    refusalscope: Caller, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    words = ("--site", "mlp", "--token", "template", "--no-ablated", "--layer", "1", "--json")
    called = fit(refusalscope, finished, files, *words)
    facts = json.loads(called.out)
    assert (facts["site"], facts["layer"], facts["pool"]) == ("mlp", 1, "template")
    assert not facts["is_ablated"]
    first = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").unlink()
    assert fit(refusalscope, finished, files, *words).status == 0
    assert (tmp_path / "m.safetensors").read_bytes() == first


def test_what_cannot_be_fitted_is_one_line_and_no_file(
    refusalscope: Caller, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    for words, said in (
        (("--fpr", "0.01"), "at least 300 harmless instructions .* and there are 16; give more"),
        (("--hold-out", "doors"), "'doors' is no category .* there are: locks, roofs, walls"),
        (("--layer", "7"), "--layer 7 has no resid in tiny; it has layers 0 to 1"),
        (("--kind", "none"), "--kind is 'none'"),
        (("--kind", "projection", "--site", "mlp"), "is one of the stream"),
        (("--fpr", "1"), "--fpr is 1.0"),
        (("--harmless", "h.jsonl"), "share 24 instructions"),
        (
            ("--hold-out", "locks", "--hold-out", "roofs", "--hold-out", "walls"),
            "0 instructions are left for harmful_train",
        ),
    ):
        called = fit(refusalscope, finished, files, *words)
        assert re.search(said, called.line), called.err
    called = refusalscope("monitor", "fit", finished, "--out", "m.safetensors")
    assert "and there are 3; give more with --harmful and --harmless" in called.line
    assert not (tmp_path / "m.safetensors").exists()


def test_nothing_is_written_over(
    refusalscope: Caller, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    assert fit(refusalscope, finished, files).status == 0
    monitor = (tmp_path / "m.safetensors").read_bytes()
    assert "m.safetensors exists already" in fit(refusalscope, finished, files).line
    (tmp_path / "found.json").write_text("mine")
    assert "found.json exists already" in evaluate(refusalscope, finished, files).line
    called = refusalscope(
        *("monitor", "score", "m.safetensors", "--model", finished),
        *("--instructions", files["harmful"], "--out", "found.json"),
    )
    assert "found.json exists already" in called.line
    assert (tmp_path / "found.json").read_text() == "mine"
    assert (tmp_path / "m.safetensors").read_bytes() == monitor


def test_it_is_not_measured_on_what_it_was_fitted_on(
    refusalscope: Caller, finished: Path, files: dict[str, Path]
) -> None:
    assert fit(refusalscope, finished, files).status == 0
    called = evaluate(refusalscope, finished, files, "--harmful", files["harmful"])
    assert "the monitor was fitted on 24 of 24 harmful instructions" in called.line


def test_another_model_is_warned_of_or_refused(
    refusalscope: Caller, finished: Path, given: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    assert fit(refusalscope, finished, files).status == 0
    save_tiny(tmp_path / "wide", hidden_size=64)
    score = ("--instructions", files["harmful"], "--out", "scores.jsonl")
    called = refusalscope("monitor", "score", "m.safetensors", "--model", "wide", *score)
    assert "the monitor is of tiny, 32 wide with 2 layers; wide is 64 wide" in called.line
    plain = refusalscope(
        "monitor", "score", "m.safetensors", "--model", given / "tiny", *score, "--json"
    )
    assert json.loads(plain.out)["n"] == 24


def test_a_monitor_says_when_it_is_of_other_weights(
    refusalscope: Caller, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    assert fit(refusalscope, finished, files).status == 0
    shutil.move(tmp_path / "m.safetensors", tmp_path / "old.safetensors")
    made = load_monitor(tmp_path / "old.safetensors")
    other = made.facts.model_copy(update={"weights_sha256": "0" * 64, "held_out": ("doors",)})
    save_monitor(
        Monitor(facts=other, readout=made.readout, seen=made.seen), tmp_path / "m.safetensors"
    )
    called = evaluate(refusalscope, finished, files)
    assert "warning: the monitor was fitted on other weights, those of tiny" in called.out
    assert "held-out categories doors; nothing is said of them" in called.out
