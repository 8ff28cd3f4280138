"""`refusalscope export`: rates and audit in the forms that others read, by their readers."""

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from refusalscope.measures.audit.exports import rungs_csv
from refusalscope.results.audit_records import AUDIT, Audit, AuditModel, AuditRung
from refusalscope.results.files import sha256_file
from refusalscope.results.records import RunManifest, Summary
from refusalscope.results.run_records import RUN, SUMMARY, read_record, read_run

NEEDS_INSPECT = pytest.mark.skipif(
    find_spec("inspect_ai") is None, reason="needs the extra inspect"
)
NEEDS_VALIDATOR = pytest.mark.skipif(
    find_spec("every_eval_ever") is None, reason="needs every-eval-ever, of the extra eval"
)


@pytest.fixture
def at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")


def audited(run_folder: Path) -> Path:
    """A run with an audit.json that says two things; nothing of it was measured."""
    model = read_record(RunManifest, run_folder / RUN).model
    rung = {"complied": 0.75, "degenerate": 0.0, "n": 4, "low": 0.05, "high": 0.7, "detail": ""}
    rungs = (
        AuditRung(name="ablation", refused=0.25, gap=None, cost=None, not_tried=None, **rung),
        AuditRung(
            name="lora_10",
            refused=None,
            complied=None,
            degenerate=None,
            n=0,
            low=None,
            high=None,
            gap=None,
            cost=None,
            detail="",
            not_tried="no pairs",
        ),
    )
    record = Audit(
        model=AuditModel(
            name=model.name,
            source=model.source,
            weights_sha256=model.weights_sha256,
            architecture=model.architecture,
        ),
        findings=("One direction does it.",),
        advice=(),
        rungs=rungs,
        rank_area=None,
        over_refusal={},
        dose={"0.5": None},
        decoys=None,
        monitors=None,
        scan=None,
        not_tested={},
        versions={"refusalscope": "0"},
    )
    (run_folder / AUDIT).write_text(record.to_json())
    return run_folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_rates_as_csv_are_those_of_the_summary_and_of_the_audit(refusalscope, run_folder, tmp_path):
    told = refusalscope("export", audited(run_folder), "--out", tmp_path / "out", "--as", "csv")
    assert told.status == 0
    summary = read_record(Summary, run_folder / SUMMARY)
    rows = list(csv.DictReader((tmp_path / "out/rates.csv").read_text().splitlines()))
    ours = {
        (row["judge"], row["dataset"], row["condition"]): (float(row["rate"]), int(row["n"]))
        for row in rows
        if row["judge"]
    }
    assert ours == {
        (judge, dataset, condition): (rate.rate, rate.n)
        for judge, by_dataset in summary.judges.items()
        for dataset, by_condition in by_dataset.items()
        for condition, rate in by_condition.items()
    }
    of_audit = [row for row in rows if row["part"] != "run"]
    assert {row["share_of"]: float(row["rate"]) for row in of_audit} == {
        "refused": 0.25,
        "complied": 0.75,
        "degenerate": 0.0,
    }
    assert {row["condition"] for row in of_audit} == {"ablation"}  # what was not tried has no rate
    assert "no pairs" in rungs_csv(read_record(Audit, run_folder / AUDIT))


@pytest.mark.usefixtures("at_one_time")
def test_instructions_and_answers_are_written_only_where_asked(refusalscope, run_folder, tmp_path):
    forms = ["--as", "csv", "--as", "every-eval-ever"]
    forms += ["--as", "inspect"] if find_spec("inspect_ai") else []
    assert refusalscope("export", run_folder, "--out", tmp_path / "folded", *forms).status == 0
    told = refusalscope("export", run_folder, "--out", tmp_path / "open", *forms, "--with-text")
    assert told.status == 0
    asked = {row.instruction.encode() for row in read_run(run_folder).completions}
    folded, opened = files_of(tmp_path / "folded"), files_of(tmp_path / "open")
    assert not any(text in content for text in asked for content in folded.values())
    for text in asked:
        assert any(text in content for content in opened.values())
    assert len([name for name in opened if name.endswith("_samples.jsonl")]) == 1


@pytest.mark.usefixtures("at_one_time")
def test_an_export_of_the_same_run_at_the_same_time_is_the_same_bytes(
    refusalscope, run_folder, tmp_path
):
    for name in ("once", "again"):
        words = ("--as", "csv", "--as", "every-eval-ever", "--with-text")
        assert refusalscope("export", run_folder, "--out", tmp_path / name, *words).status == 0
    assert files_of(tmp_path / "once") == files_of(tmp_path / "again")


@NEEDS_VALIDATOR
@pytest.mark.parametrize("more", [(), ("--with-text",), ("--model-id", "someone/a-model")])
def test_its_own_validator_takes_a_record_of_every_eval_ever(
    refusalscope, run_folder, tmp_path, more
):
    out = tmp_path / "out"
    words = ("--as", "every-eval-ever", "--organization", "A lab", *more)
    assert refusalscope("export", audited(run_folder), "--out", out, *words).status == 0
    files = list(files_of(out))
    program = "import sys; from every_eval_ever.validate import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *files]
    told = subprocess.run(
        command,
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{len(files)} passed, 0 warning-only, 0 failed" in told.stdout


@NEEDS_INSPECT
def test_inspects_own_reader_opens_the_logs(refusalscope, run_folder, tmp_path):
    out = tmp_path / "out"
    words = ("--as", "inspect", "--with-text")
    assert refusalscope("export", run_folder, "--out", out, *words).status == 0
    from inspect_ai.log import read_eval_log  # pyright: ignore[reportMissingImports]

    run = read_run(run_folder)
    for condition in {row.condition for row in run.completions}:
        log = read_eval_log(str(out / "inspect" / f"{condition}.json"))
        own = [row for row in run.completions if row.condition == condition]
        assert log.status == "success"
        assert log.samples is not None
        assert log.results is not None
        assert [(s.input, s.output.completion) for s in log.samples] == [
            (row.instruction, row.text) for row in own
        ]
        for judged in run.judgements:
            flags = {
                f"{row.dataset}-{row.index}": int(row.flag)
                for row in judged.rows
                if row.condition == condition and row.flag is not None
            }
            assert {s.id: (s.scores or {})[judged.judge].value for s in log.samples} == flags
        for score in log.results.scores:
            of_dataset = [row for row in own if row.dataset == (score.metadata or {})["dataset"]]
            assert score.scored_samples == len(of_dataset)
            assert score.unscored_samples == 0


def test_a_statement_names_every_weight_file_and_its_digest(refusalscope, run_folder, tmp_path):
    out = tmp_path / "out"
    assert refusalscope("export", audited(run_folder), "--out", out, "--as", "in-toto").status == 0
    statement = json.loads((out / "statement.json").read_text())
    model = Path(read_record(RunManifest, run_folder / RUN).model.source)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {"name": file.name, "digest": {"sha256": sha256_file(file)}}
        for file in sorted(model.glob("*.safetensors"))
    ]
    assert statement["predicate"]["rungs"][0]["refused"] == 0.25


def test_a_statement_is_of_the_weights_that_were_audited(refusalscope, run_folder, tmp_path):
    audited(run_folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    (other / "model.safetensors").write_bytes(b"other weights")
    words = ("--as", "in-toto", "--checkpoint", other)
    told = refusalscope("export", run_folder, "--out", tmp_path / "out", *words)
    assert told.status == 2
    assert "name the folder that was audited with --checkpoint" in told.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--as", "xml"),
            "a form is 'xml'; expected one of csv, every-eval-ever, in-toto, inspect",
        ),
        (("--as", "in-toto"), "has no audit.json"),
        (
            ("--as", "every-eval-ever", "--model-id", "../x/y"),
            "the model's id is '../x/y'; expected OWNER/NAME",
        ),
    ],
)
def test_what_cannot_be_written_is_one_line(refusalscope, run_folder, tmp_path, words, said):
    told = refusalscope("export", run_folder, "--out", tmp_path / "out", *words)
    assert told.status == 2
    assert said in told.err
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_finished_has_nothing_to_export(refusalscope, run_folder, tmp_path):
    (run_folder / SUMMARY).unlink()
    told = refusalscope("export", run_folder, "--out", tmp_path / "out", "--as", "csv")
    assert told.status == 2
    assert "is not finished, so it has no rates; continue it with" in told.err
