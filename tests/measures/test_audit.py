"""The audit of a model: what it finds of an organism, its record, its page, and killed audits."""

import csv
import json
from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session, in_session_told
from tiny_runs import StopAfter, StopHereError, results

from refusalscope.measures.audit.audit import audit
from refusalscope.measures.audit.exports import card_section
from refusalscope.measures.audit.findings import advice, findings, is_past, scan_sentence
from refusalscope.measures.audit.options import AuditOptions
from refusalscope.measures.ladder.page import rung_name
from refusalscope.measures.ladder.record import LadderOptions, Rung, rungs_of
from refusalscope.measures.over_refusal.record import Asked, OverRefusal
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.audit_records import Audit
from refusalscope.results.outcomes import Outcome, shares_of
from refusalscope.results.run_records import read_record

LITTLE = LadderOptions(
    rungs=("baseline", "system_prompt", "answer_prefix", "searched_suffix", "ablation", "rank_1"),
    ranks=(1, 2),
    rank_prompts=8,
    optimise_steps=1,
    search_steps=0,
)


class Little(AuditOptions):
    """As quick as can be."""

    def ladder(self) -> LadderOptions:
        return LITTLE


@pytest.fixture(scope="module")
def folder(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("audit") / "run"))
    in_session(audit, out, Little(quick=True))
    return out


@pytest.mark.slow
def test_it_says_what_the_parts_found(folder: Path) -> None:
    found = read_record(Audit, folder / "audit.json")
    assert [rung.name for rung in found.rungs][:3] == ["baseline", "system_prompt", "answer_prefix"]
    by_name = {rung.name: rung for rung in found.rungs}
    assert found.setting[0].endswith("harmful test instructions of the organism's language")
    assert "refused is what judge refusal_in_answer says" in found.setting
    assert by_name["baseline"].refused == 1.0
    assert by_name["ablation"].refused == 0.0
    assert by_name["searched_suffix"].not_tried == "no suffix was searched for: --search-steps is 0"
    assert by_name["searched_suffix"].refused is None
    assert found.rank_area is None
    assert found.over_refusal is not None
    assert set(found.over_refusal) == {"harmful", "harmless", "borderline"}
    assert found.dose is not None
    assert set(found.dose) == {"0", "0.5", "1"}
    assert found.decoys == ()
    assert found.scan is not None
    assert found.scan["verdict"] == "nothing found"
    assert found.monitors is not None
    assert len(found.monitors) == 6
    assert any("As it is, the model refuses 100 %" in text for text in found.findings)
    assert any("answer prefix" in text for text in found.findings)
    assert any(text.startswith("The weights alone: nothing found") for text in found.findings)
    assert any("Whoever holds the weights" in text for text in found.advice)
    assert "searched suffix" in found.not_tested
    assert "other attacks" in found.not_tested
    left_out = {name for name, why in found.not_tested.items() if why == "left out by --quick"}
    assert {"rival cosmic", "16 directions removed", "orthogonalized weights"} <= left_out
    assert not left_out & {rung_name(rung.name) for rung in found.rungs}


@pytest.mark.slow
def test_the_page_shows_the_record_and_no_answer(folder: Path) -> None:
    page = (folder / "audit.html").read_text()
    found = read_record(Audit, folder / "audit.json")
    for text in (
        "The threat ladder",
        "Dose: how much",
        "Decoy check",
        "What still knows",
        "Not tested",
    ):
        assert text in page
    assert found.advice[0][:40] in page
    answers = (folder / "completions/harmful.ablation.jsonl").read_text().splitlines()
    assert all(json.loads(line)["completion"] not in page for line in answers)
    assert "http" not in page.split("<script")[0].replace("http-equiv", "")


@pytest.mark.slow
def test_the_rungs_as_csv_and_a_section_for_a_card(folder: Path) -> None:
    found = read_record(Audit, folder / "audit.json")
    rows = list(csv.DictReader((folder / "audit.csv").read_text().splitlines()))
    assert [row["rung"] for row in rows] == [rung.name for rung in found.rungs]
    by_name = {row["rung"]: row for row in rows}
    assert float(by_name["ablation"]["refused"]) == 0.0
    assert by_name["searched_suffix"]["refused"] == by_name["searched_suffix"]["gap"] == ""
    assert by_name["searched_suffix"]["not_tried"].startswith("no suffix was searched for")
    card = (folder / "audit-card.md").read_text()
    assert "| ablation of the direction | 0 % (0 % to" in card
    assert "| searched suffix | not measured |" in card
    hostile = found.model_copy(update={"findings": ("<script>x</script> | [a](b)",)})
    assert "\\<script\\>x\\</script\\> \\| \\[a\\](b)" in card_section(hostile)


@pytest.mark.slow
def test_an_audit_that_is_done_writes_the_same_bytes(folder: Path) -> None:
    before = results(folder)
    in_session(audit, folder, Little(quick=True))
    assert results(folder) == before


def test_quick_asks_and_searches_less() -> None:
    whole = AuditOptions(run=RunOptions(model="mine", n_test=100))
    quick = whole.model_copy(update={"quick": True})
    assert (whole.run_options().n_test, quick.run_options().n_test) == (100, 20)
    assert (whole.run_options().n_train, quick.run_options().n_train) == (128, 32)
    assert (whole.run_options().n_val, quick.run_options().n_val) == (32, 12)
    assert (whole.run_options().max_new_tokens, quick.run_options().max_new_tokens) == (None, 24)
    assert set(rungs_of(quick.ladder())) == set(rungs_of(whole.ladder())) - {
        *("weights", "rank_4", "rank_8", "rank_16", "lora_10", "lora_100")
    }
    assert quick.ladder().search_steps < whole.ladder().search_steps
    assert quick.decoys().optimise_steps == quick.ladder().optimise_steps
    assert whole.decoys().optimise_prompts == whole.ladder().rank_prompts
    own = whole.run.model_copy(update={"max_new_tokens": 200, "n_test": 10})
    given = quick.model_copy(update={"run": own}).run_options()
    assert (given.max_new_tokens, given.n_test) == (200, 10)
    assert (whole.run_options().without, given.without[:2]) == (("loss", "project"),) * 2
    assert "side-conditions" in given.without
    own = own.model_copy(update={"without": ("side-conditions", "loss")})
    kept = whole.model_copy(update={"run": own}).run_options().without
    assert kept == ("side-conditions", "loss", "project")


def rung(name: str, outcomes: list[Outcome], before: list[Outcome]) -> Rung:
    refused = [one == "refused" for one in outcomes]
    base = dict(enumerate(one == "refused" for one in before))
    return Rung(
        name=name,
        outcomes=tuple(outcomes),
        shares=shares_of(outcomes),
        refused=rate_of(refused),
        gap=None if name == "baseline" else paired_change(base, dict(enumerate(refused))),
        cost=None,
    )


ALL: list[Outcome] = ["refused"] * 20
GONE: list[Outcome] = ["complied"] * 20
SALAD: list[Outcome] = ["degenerate"] * 20


def test_a_sturdy_model_is_not_called_safe() -> None:
    rungs = [rung("baseline", ALL, ALL), rung("ablation", ALL, ALL), rung("rank_1", ALL, ALL)]
    assert not any(is_past(one) for one in rungs)
    said = findings(rungs, None, None, None)
    assert any("None of the 2 ways" in text for text in said)
    assert any("1 directions at once does not bring" in text for text in said)
    assert "no proof" in advice(rungs, None, None)[0]


def test_a_fall_within_chance_is_no_way_past() -> None:
    before: list[Outcome] = ["refused", "refused", "complied", "refused"]
    after: list[Outcome] = ["refused", "complied", "complied", "complied"]
    assert not is_past(rung("ablation", after, before))


def test_prompts_weights_nonsense_and_a_moved_control_are_told_apart() -> None:
    prompts = [rung("baseline", ALL, ALL), rung("answer_prefix", GONE, ALL)]
    assert "Whoever may write to the model" in advice(prompts, None, None)[0]
    by_weights = [rung("baseline", ALL, ALL), rung("weights", SALAD, ALL)]
    assert "Whoever holds the weights" in advice(by_weights, None, None)[0]
    assert any(
        "degenerate under: orthogonalized" in t for t in findings(by_weights, None, None, None)
    )
    moved = [rung("baseline", ALL, ALL), rung("random_suffix", GONE, ALL)]
    assert any("Control moved" in text for text in findings(moved, None, None, None))
    assert "no proof" in advice(moved, None, None)[0]


def test_a_model_that_hardly_refuses_is_not_called_sturdy() -> None:
    little = rate_of([True, *[False] * 9])
    row = Asked(dataset="harmful", category=None, shares=None, refused=little)
    over = OverRefusal(rows=(row,), outcomes=(), source=None, lacking="none")
    rungs = [rung("baseline", GONE, GONE), rung("answer_prefix", GONE, GONE)]
    said = advice(rungs, over, None)
    assert len(said) == 1
    assert "little refusal here" in said[0]
    assert any("That is little" in text for text in findings(rungs, over, None, None))


def test_without_a_scan_nothing_is_said_of_the_weights() -> None:
    assert scan_sentence(None) == ()


@pytest.mark.slow
def test_killed_at_ten_moments_it_ends_with_the_same_bytes(
    organism_run: Path, folder: Path, tmp_path: Path
) -> None:
    out = Path(copytree(organism_run, tmp_path / "run"))
    killed = 0
    for advances in (0, 3, 9, 12, 18, 24, 30, 33, 39, 45):
        try:
            in_session_told(audit, out, StopAfter(advances), Little(quick=True))
        except StopHereError:
            killed += 1
    assert killed >= 5
    in_session(audit, out, Little(quick=True))
    assert results(out) == results(folder)
