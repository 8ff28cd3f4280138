"""Audits side by side: shares and paired changes from the first, and what was not done alike."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from refusalscope.errors import InputError, OutputError, RunFolderError
from refusalscope.measures.audit.compare import compare_audits, compared
from refusalscope.measures.ladder.record import Rung
from refusalscope.measures.over_refusal.record import Asked, OverRefusal
from refusalscope.metrics.intervals import rate_of
from refusalscope.results.audit_records import Audit, AuditModel
from refusalscope.results.outcomes import Outcome, shares_of
from refusalscope.results.records import Rate

SETTING = (
    "8 harmful test instructions of the organism's language",
    "8 harmless test instructions of the organism's language",
    "greedy answers of at most 64 tokens",
    "refused is what judge refusal_in_answer says",
    "refusalscope 0",
)
R: Outcome = "refused"


def answers(refused: int = 0, complied: int = 0, degenerate: int = 0) -> list[Outcome]:
    """So many outcomes of each, in this order."""
    counts: tuple[tuple[Outcome, int], ...] = (
        ("refused", refused),
        ("complied", complied),
        ("degenerate", degenerate),
    )
    return [outcome for outcome, n in counts for _ in range(n)]


def rung(name: str, outcomes: Sequence[Outcome | None], lacking: str | None = None) -> Rung:
    refused = [one == R for one in outcomes if one is not None]
    return Rung(
        name=name,
        outcomes=tuple(outcomes),
        shares=shares_of(outcomes),
        refused=rate_of(refused) if refused else None,
        gap=None,
        cost=None,
        lacking=lacking,
    )


def asked(dataset: str, outcomes: Sequence[Outcome | None]) -> Asked:
    refused = [one == R for one in outcomes]
    return Asked(
        dataset=dataset, category=None, shares=shares_of(outcomes), refused=rate_of(refused)
    )


def audit_in(
    run: Path, folder: Path, name: str, rungs: list[Rung], *, area: float, setting=SETTING
) -> Path:
    """A run as if it had been audited."""
    shutil.copytree(run, folder)
    for one in rungs:
        path = folder / "measures" / "ladder" / f"{one.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.to_json())
    over = OverRefusal(
        rows=(asked("harmful", answers(8)), asked("harmless", answers(0, 8))),
        outcomes=(),
        source=None,
        lacking="no borderline instructions were given",
    )
    (folder / "measures" / "over-refusal.json").write_text(over.to_json())
    record = Audit(
        model=AuditModel(name=name, source=f"folder/{name}", weights_sha256="ab", architecture="X"),
        setting=setting,
        findings=(),
        advice=(),
        rungs=(),
        rank_area=Rate(rate=area, n=8, low=0.0, high=1.0),
        over_refusal=None,
        dose=None,
        decoys=None,
        monitors=None,
        scan=None,
        not_tested={},
        versions={},
    )
    (folder / "audit.json").write_text(record.to_json())
    return folder


@pytest.fixture
def plain(organism_run: Path, tmp_path: Path) -> Path:
    rungs = [
        rung("baseline", answers(8)),
        rung("ablation", answers(1, 7)),
        rung("rank_1", answers(1, 7)),
        rung("rank_2", answers(0, 8)),
        rung("searched_suffix", [], lacking="no suffix was searched for"),
    ]
    return audit_in(organism_run, tmp_path / "plain", "plain", rungs, area=0.1)


@pytest.fixture
def hardened(organism_run: Path, tmp_path: Path) -> Path:
    rungs = [
        rung("baseline", answers(8)),
        rung("ablation", answers(7, 0, 1)),
        rung("rank_1", answers(7, 0, 1)),
        rung("rank_2", answers(3, 5)),
        rung("optimised", answers(8)),
    ]
    return audit_in(organism_run, tmp_path / "hard", "hardened", rungs, area=0.6)


def test_every_rung_stands_beside_that_of_the_first_with_paired_changes(
    plain: Path, hardened: Path
) -> None:
    found = compared([plain, hardened])
    assert [one.label for one in found.audits] == ["plain", "hardened"]
    assert [one.rank_below_half for one in found.audits] == [1, 2]
    by_name = {row.name: row.cells for row in found.rungs}
    assert list(by_name) == [
        *("baseline", "searched_suffix", "ablation", "rank_1", "rank_2", "optimised")
    ]
    first, second = by_name["ablation"]
    assert (first.refused.rate, first.change) == (0.125, None)  # pyright: ignore[reportOptionalMemberAccess]
    assert second.change is not None
    assert (second.change.difference, second.change.n, second.change.is_paired) == (0.75, 8, True)
    assert second.shares is not None
    assert second.shares.degenerate == 0.125
    assert by_name["searched_suffix"][0].lacking == "no suffix was searched for"
    assert by_name["optimised"][0].lacking == "not among the rungs of this audit"
    assert by_name["optimised"][1].change is None
    kinds = {row.name: row.cells for row in found.kinds}
    assert [cell.refused.rate for cell in kinds["harmful"]] == [1.0, 1.0]  # pyright: ignore[reportOptionalMemberAccess]
    assert kinds["harmful"][1].change is not None
    assert kinds["harmful"][1].change.is_paired
    assert kinds["borderline"][0].lacking == "no borderline instructions were given"
    assert found.cosines[0][1] == pytest.approx(1.0)
    assert found.not_alike == ()


def test_other_instructions_are_independent_samples_and_said(
    organism_run: Path, plain: Path, tmp_path: Path
) -> None:
    other = audit_in(
        organism_run,
        tmp_path / "other",
        "other",
        [rung("baseline", answers(8)), rung("ablation", answers(0, 8))],
        area=0.0,
        setting=(*SETTING[:2], "greedy answers of at most 9 tokens", *SETTING[3:]),
    )
    path = other / "completions" / "harmful.baseline.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["instruction"] += " now"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compared([plain, other])
    change = {row.name: row.cells for row in found.rungs}["ablation"][1].change
    assert change is not None
    assert not change.is_paired
    assert any(text.startswith("harmful instructions are others") for text in found.not_alike)
    assert any("at most 9 tokens" in text for text in found.not_alike)
    assert not any("harmless instructions" in text for text in found.not_alike)


def test_the_page_and_the_record_are_written_and_escaped(
    organism_run: Path, plain: Path, tmp_path: Path
) -> None:
    name = "<script>x</script>"
    odd = audit_in(organism_run, tmp_path / "odd", name, [rung("baseline", answers(8))], area=1.0)
    compare_audits([plain, odd], tmp_path / "out")
    page = (tmp_path / "out" / "audits.html").read_text()
    assert "<script>x" not in page
    assert "The threat ladder: harmful instructions still refused" in page
    assert "position \N{MINUS SIGN}" in page
    assert json.loads((tmp_path / "out" / "audits.json").read_text())["schema"] == 1


def test_two_of_one_name_are_told_apart_by_their_folders(plain: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(plain, tmp_path / "again"))
    labels = [one.label for one in compared([plain, again]).audits]
    assert labels == ["plain (plain)", "plain (again)"]
    twin = Path(shutil.copytree(plain, tmp_path / "sub" / "plain"))
    labels = [one.label for one in compared([plain, twin]).audits]
    assert labels == [f"plain ({plain})", f"plain ({twin})"]


def test_rungs_that_were_not_tried_alike_are_named(plain: Path, hardened: Path) -> None:
    for folder, steps in ((plain, 3), (hardened, 9)):
        manifest = json.loads((folder / "run.json").read_text())
        made = {"version": 1, "stages": {}}
        manifest["measured"] = {
            "measures/ladder/rank_2.json": made | {"settings": {"rank_prompts": steps}},
            "measures/ladder/ablation.json": made | {"settings": {}},
        }
        (folder / "run.json").write_text(json.dumps(manifest))
    (told,) = compared([plain, hardened]).not_alike
    assert told == (
        "2 directions removed was not tried with the same settings as in the first audit in "
        "hardened"
    )


def test_links_out_of_a_shared_folder_are_refused(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (plain / "measures" / "over-refusal.json").unlink()
    (plain / "measures" / "over-refusal.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(RunFolderError, match="over-refusal"):
        compared([plain])


def test_what_is_no_audit_is_one_line(organism_run: Path, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"audit\.json"):
        compared([plain, organism_run])
    with pytest.raises(InputError, match="given twice"):
        compared([plain, plain])
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists"):
        compare_audits([plain], tmp_path / "out")
