"""The threat ladder: which rungs there are, what each does to an organism, what the page says."""

from itertools import pairwise
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file
from sessions import in_session

from refusalscope.directions.direction import load_direction
from refusalscope.errors import InputError, OutputError, RunFolderError
from refusalscope.measures.ladder.page import area_of, in_order, lines, section, summary
from refusalscope.measures.ladder.record import LadderOptions, Rung, rungs_of
from refusalscope.metrics.intervals import rate_of
from refusalscope.pipeline.measure import measure
from refusalscope.results.attack_records import Cost
from refusalscope.results.measures import measure_named
from refusalscope.results.outcomes import Outcome, shares_of
from refusalscope.results.run_records import read_record, read_run

KIND = measure_named("ladder")
FEW = {"ranks": (1, 2, 3), "rank_prompts": 12, "optimise_steps": 3, "n_pairs": (10,)}
SEARCH = {"search_steps": 3, "search_candidates": 8, "search_prompts": 2, "suffix_tokens": 6}
OPTIONS = KIND.options_of({**FEW, **SEARCH})


@pytest.fixture(scope="module")
def folder(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("ladder") / "run"))
    in_session(measure, out, KIND, OPTIONS)
    return out


@pytest.fixture(scope="module")
def rungs(folder: Path) -> dict[str, Rung]:
    found = [read_record(Rung, path) for path in KIND.files(folder)]
    return {rung.name: rung for rung in in_order(found)}


def test_what_needs_the_least_access_comes_first(rungs: dict[str, Rung]) -> None:
    assert [*rungs] == [
        *("baseline", "system_prompt", "answer_prefix", "random_suffix", "searched_suffix"),
        *("ablation", "rank_1", "rank_2", "rank_3", "subtraction", "optimised", "weights"),
        "lora_10",
    ]


def test_each_rung_has_outcomes_an_interval_and_its_cost(rungs: dict[str, Rung]) -> None:
    for name, rung in rungs.items():
        assert rung.lacking is None, name
        assert rung.shares is not None
        assert rung.refused is not None
        assert rung.refused.low <= rung.refused.rate <= rung.refused.high
        assert rung.shares.n == rung.refused.n == 8
        assert (rung.gap is None) == (name == "baseline")
        assert rung.cost is not None
    passes = {name: rung.cost.forward for name, rung in rungs.items() if rung.cost}
    assert passes["baseline"] == passes["system_prompt"] == 0
    assert passes["ablation"] == passes["rank_1"] < passes["rank_2"] < passes["rank_3"]
    assert passes["optimised"] > passes["ablation"]
    assert passes["searched_suffix"] > 0
    assert rungs["lora_10"].cost == Cost(prompts=10, forward=100, backward=100)


def test_on_the_organism_directions_get_past_and_random_tokens_do_not(
    rungs: dict[str, Rung],
) -> None:
    refused = {name: rung.refused.rate for name, rung in rungs.items() if rung.refused}
    assert refused["baseline"] == refused["random_suffix"] == 1.0
    for name in ("ablation", "rank_2", "rank_3", "optimised", "weights", "answer_prefix"):
        assert refused[name] == 0.0, name


def test_the_weights_do_what_ablation_does(rungs: dict[str, Rung]) -> None:
    assert rungs["weights"].outcomes == rungs["ablation"].outcomes


def test_directions_are_orthonormal_and_begin_with_the_run_s(folder: Path) -> None:
    basis = load_file(folder / "measures/ladder/directions.safetensors")["vectors"]
    torch.testing.assert_close(basis @ basis.T, torch.eye(3).double(), atol=1e-6, rtol=0)
    own = load_direction(folder).vector.double()
    assert float(basis[0] @ own / own.norm()) == pytest.approx(1.0)


def test_a_higher_rank_goes_on_with_what_was_found(rungs: dict[str, Rung]) -> None:
    assert rungs["rank_3"].places[:2] == rungs["rank_2"].places
    assert len(rungs["rank_3"].places) == 3


def test_what_is_there_is_read_and_what_was_made_otherwise_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in (folder / "measures").rglob("*") if p.is_file()}
    monkeypatch.setattr(
        "refusalscope.pipeline.complete_aside.answer_aside",
        lambda *_args, **_kwargs: pytest.fail("answers are written again"),
    )
    in_session(measure, folder, KIND, OPTIONS)
    assert before == {p: p.read_bytes() for p in (folder / "measures").rglob("*") if p.is_file()}
    other = KIND.options_of({**FEW, **SEARCH, "prefix": "Well"})
    with pytest.raises(OutputError, match="another prefix"):
        in_session(measure, folder, KIND, other)


@pytest.mark.slow
def test_killed_at_every_rung_it_ends_with_the_same_bytes(
    organism_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each judgement of answers and after each direction, then begun again."""
    out = Path(copytree(organism_run, tmp_path / "run"))
    from refusalscope.measures.ladder import removed
    from refusalscope.pipeline import complete_aside

    wanted = KIND.options_of({**FEW, **SEARCH, "rungs": ("rank_3", "answer_prefix", "optimised")})
    real = {complete_aside: complete_aside.outcomes_aside, removed: removed.keep_vectors}
    killed: list[str] = []

    def dies(name: str, function: object):
        def wrapped(*args: object, **kwargs: object):
            result = function(*args, **kwargs)  # type: ignore[operator]
            killed.append(name)
            if len(killed) < 6:
                raise KeyboardInterrupt
            return result

        return wrapped

    monkeypatch.setattr(complete_aside, "outcomes_aside", dies("judged", real[complete_aside]))
    monkeypatch.setattr(removed, "keep_vectors", dies("direction", real[removed]))
    for _ in range(7):
        try:
            in_session(measure, out, KIND, wanted)
            break
        except KeyboardInterrupt:
            continue
    assert {"judged", "direction"} == set(killed)
    for name in ("rank_3.json", "answer_prefix.json", "optimised.json", "directions.safetensors"):
        own, other = (base / "measures/ladder" / name for base in (out, folder))
        assert own.read_bytes() == other.read_bytes(), name
    assert not [*(out / "measures").rglob(".journal*")]


def test_answers_of_another_setting_are_never_taken_over(
    organism_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the answers and the record, then begun with another system prompt."""
    out = Path(copytree(organism_run, tmp_path / "run"))

    def dies(*_args: object) -> None:
        raise KeyboardInterrupt

    one, other = (
        KIND.options_of({"rungs": ("system_prompt",), "system_prompt": text})
        for text in ("Be brief.", "Be kind.")
    )
    with monkeypatch.context() as patched:
        patched.setattr("refusalscope.pipeline.complete_aside.outcomes_aside", dies)
        with pytest.raises(KeyboardInterrupt):
            in_session(measure, out, KIND, one)
    with pytest.raises(OutputError, match="other prompts or another edit"):
        in_session(measure, out, KIND, other)
    in_session(measure, out, KIND, one)


def test_a_damaged_file_of_directions_is_one_line(folder: Path, tmp_path: Path) -> None:
    out = Path(copytree(folder, tmp_path / "run"))
    (out / "measures/ladder/rank_3.json").unlink()
    (out / "measures/ladder/directions.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RunFolderError, match="is no whole file of vectors"):
        in_session(measure, out, KIND, OPTIONS)


def test_what_a_direction_took_is_counted(rungs: dict[str, Rung]) -> None:
    """Both kinds are read once; a gradient and three or four places are tried on eight prompts."""
    costs = [rungs[f"rank_{k}"].cost for k in (1, 2, 3)]
    steps = [
        (b.forward - a.forward, b.backward - a.backward) for a, b in pairwise(costs) if a and b
    ]
    assert all(forward in (24 + 4 * 8, 24 + 5 * 8) for forward, _ in steps)
    assert [backward for _, backward in steps] == [8, 8]


def test_a_run_knows_its_files(folder: Path) -> None:
    assert read_run(folder).unknown == ()


def test_rungs_are_asked_for_by_name() -> None:
    assert rungs_of(LadderOptions(rungs=("weights", "baseline"))) == ["baseline", "weights"]
    with pytest.raises(InputError, match="no rung is called 'ladder'"):
        rungs_of(LadderOptions(rungs=("ladder",)))
    with pytest.raises(InputError, match="--rank gives a number twice"):
        rungs_of(LadderOptions(ranks=(2, 2)))


@pytest.mark.parametrize(
    ("options", "rung", "why"),
    [
        ({"search_steps": 0}, "searched_suffix", "--search-steps is 0"),
        ({"optimise_steps": 0}, "optimised", "--optimise-steps is 0"),
        ({"ranks": (1, 97)}, "rank_97", "96 wide"),
    ],
)
def test_a_rung_that_cannot_be_tried_says_why(
    organism_run: Path, tmp_path: Path, options: dict[str, object], rung: str, why: str
) -> None:
    out = Path(copytree(organism_run, tmp_path / "run"))
    wanted = KIND.options_of({**options, "rungs": ("baseline", rung)})
    _, found = in_session(measure, out, KIND, wanted)
    assert isinstance(found, Rung)
    assert why in (found.lacking or "")
    assert (found.shares, found.refused, found.gap, found.cost) == (None, None, None, None)
    assert any("not tried" in line and why in line for line in lines([found]))


def rung(name: str, outcomes: list[Outcome | None], lacking: str | None = None) -> Rung:
    refused = [one == "refused" for one in outcomes if one is not None]
    return Rung(
        name=name,
        outcomes=tuple(outcomes),
        shares=shares_of(outcomes),
        refused=rate_of(refused) if refused else None,
        gap=None,
        cost=None,
        lacking=lacking,
    )


def test_the_area_counts_instructions_with_a_verdict_at_every_rank() -> None:
    one = rung("rank_1", ["refused", "refused", None, "complied"])
    two = rung("rank_2", ["refused", "complied", "refused", "degenerate"])
    area = area_of([one, two])
    assert area is not None
    assert area.n == 3
    assert area.rate == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert area_of([rung("ablation", ["refused"])]) is None


def test_page_and_summary_show_what_was_not_tried() -> None:
    found = [rung("baseline", ["refused", "complied"]), rung("lora_10", [], lacking="no <pairs>")]
    shown = section(found)
    assert shown is not None
    assert shown.tables[0].rows[1][0].endswith("no <pairs>")
    assert shown.tables[0].rows[1][1] == "not tried"
    assert len(shown.charts) == 1
    assert summary(found) == {"refused": {"baseline": 0.5}, "rank_area": None}
    assert section([rung("baseline", [None])]) is None
