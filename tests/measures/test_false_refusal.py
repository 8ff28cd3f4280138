"""Safe instructions that are refused: a direction of their own, and what ablating it does."""

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch
from sessions import in_session, in_session_told
from tiny_runs import StopAfter, StopHereError, contents

from refusalscope.directions.direction import load_direction
from refusalscope.measures.false_refusal.measure import DIRECTION, without_part_along
from refusalscope.measures.false_refusal.page import lines, section, summary, verdict
from refusalscope.measures.false_refusal.record import FalseRefusal, FalseRefusalOptions, Mended
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.organisms.organism import bundled_organism, read_organism
from refusalscope.pipeline.measure import measure
from refusalscope.results.measures import measure_named
from refusalscope.results.outcomes import Outcome, refused_by_index, shares_of
from refusalscope.results.run_records import read_record

KIND = measure_named("false-refusal")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> FalseRefusalOptions:
    """Half of them are refused: the organism refuses nothing that is not harmful."""
    facts = read_organism(bundled_organism())
    assert facts is not None
    drawn = [
        one.instruction
        for harmful in (True, False)
        for one in facts.language().instructions("test", harmful=harmful, n=20, seed=7)
    ]
    file = tmp_path_factory.mktemp("given") / "borderline.json"
    file.write_text(json.dumps([{"instruction": text} for text in drawn]))
    return FalseRefusalOptions(borderline=str(file), leads=3)


@pytest.fixture(scope="module")
def folder(
    organism_run: Path, few: FalseRefusalOptions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("false") / "run"))
    in_session(measure, out, KIND, few)
    return out


def test_the_direction_is_at_right_angles_to_the_runs(
    folder: Path, few: FalseRefusalOptions
) -> None:
    found = read_record(FalseRefusal, folder / KIND.path())
    assert (found.n_fit, found.lacking, found.source) == (20, None, few.borderline)
    assert 4 <= found.n_refused < 20
    own, ours = load_direction(folder / DIRECTION), load_direction(folder)
    assert (own.position, own.layer) == (found.position, found.layer)
    cosine = torch.nn.functional.cosine_similarity(own.vector, ours.vector, dim=0)
    assert abs(float(cosine)) < 1e-5
    assert found.cosine is not None
    assert abs(found.cosine) > 0.1


def test_each_kind_is_asked_plain_edited_and_with_a_control(folder: Path) -> None:
    found = read_record(FalseRefusal, folder / KIND.path())
    assert [row.name for row in found.rows] == ["borderline", "harmful", "harmless"]
    assert [len(row.plain) for row in found.rows] == [20, 8, 8]
    for row in found.rows:
        assert len(row.plain) == len(row.edited) == len(row.random)
        assert row.change is not None
        assert row.random_change is not None
        assert row.random_refused is not None
        assert row.plain_refused is not None
        assert abs(row.random_refused.rate - row.plain_refused.rate) <= 0.15  # the control


def test_the_halves_share_no_instruction(folder: Path) -> None:
    texts = [
        {json.loads(line)["instruction"] for line in file.read_text().splitlines()}
        for file in (folder / DIRECTION).parent.glob("*/plain/borderline.baseline.jsonl")
    ]
    assert [len(own) for own in texts] == [20, 20]
    assert not texts[0] & texts[1]


def test_killed_and_begun_again_it_ends_with_the_same_bytes(
    organism_run: Path, folder: Path, few: FalseRefusalOptions, tmp_path: Path
) -> None:
    out = Path(copytree(organism_run, tmp_path / "run"))
    for advances in (1, 4, 9):
        with pytest.raises(StopHereError):
            in_session_told(measure, out, StopAfter(advances), KIND, few)
    in_session(measure, out, KIND, few)
    ours, theirs = contents(out / "measures"), contents(folder / "measures")
    for own in (ours, theirs):
        own.pop("false-refusal/scores.jsonl")  # in the order in which they came
    assert ours == theirs


def test_too_few_refused_is_said_and_nothing_is_tried(organism_run: Path, tmp_path: Path) -> None:
    out = Path(copytree(organism_run, tmp_path / "run"))
    in_session(measure, out, KIND, FalseRefusalOptions(n_borderline=12))
    found = read_record(FalseRefusal, out / KIND.path())
    assert (found.source, found.n_fit) == ("the organism's language", 6)
    assert found.lacking is not None
    assert "a mean needs at least 4" in found.lacking
    assert found.rows == ()
    assert section([found]) is None
    assert [*lines([found])] == [f"No false-refusal direction: {found.lacking}."]


def test_the_part_along_a_direction_is_taken_out_by_a_share() -> None:
    vectors, direction = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([2.0, 0.0])
    assert without_part_along(vectors, direction, share=1.0).tolist() == [[0.0, 4.0], [0.0, 0.0]]
    assert without_part_along(vectors, direction, share=0.5).tolist() == [[1.5, 4.0], [0.5, 0.0]]


def mended(name: str, plain: int, edited: int, control: int, *, n: int = 40) -> Mended:
    def outcomes(refused: int) -> tuple[Outcome, ...]:
        return tuple("refused" if i < refused else "complied" for i in range(n))

    flags = [refused_by_index(outcomes(k)) for k in (plain, edited, control)]
    rates = [rate_of([*own.values()]) for own in flags]
    return Mended(
        name=name,
        plain=outcomes(plain),
        edited=outcomes(edited),
        random=outcomes(control),
        plain_refused=rates[0],
        edited_refused=rates[1],
        random_refused=rates[2],
        edited_shares=shares_of(outcomes(edited)),
        change=paired_change(flags[0], flags[1]),
        random_change=paired_change(flags[0], flags[2]),
    )


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (((20, 20, 20), (40, 40, 40)), "no mend is shown."),
        (((20, 2, 8), (40, 40, 40)), "nothing is shown of it."),
        (((20, 2, 20), (40, 20, 40)), "it mends, and takes true refusal with it."),
        (((20, 2, 20), (40, 39, 40)), "it mends, and no loss of true refusal is shown."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_verdict_says_what_the_intervals_say(
    rows: tuple[tuple[int, int, int], ...], says: str
) -> None:
    kinds = zip(("borderline", "harmful"), rows, strict=True)
    found = FalseRefusal(
        source="a file",
        position=-1,
        layer=3,
        cosine=0.4,
        kl=0.02,
        passes=True,
        rows=tuple(mended(name, *counts) for name, counts in kinds),
    )
    assert verdict(found).endswith(says)
    shown = section([found])
    assert shown is not None
    assert shown.n_intervals == 10
    (table,) = shown.tables
    assert says in table.caption
    assert len(table.rows) == 2
    assert summary([found])["borderline"] == {
        "plain": rows[0][0] / 40,
        "ablated": rows[0][1] / 40,
        "random": rows[0][2] / 40,
    }


def test_one_borderline_instruction_cannot_be_halved(
    organism_run: Path, tmp_path: Path, few: FalseRefusalOptions
) -> None:
    out = Path(copytree(organism_run, tmp_path / "run"))
    in_session(measure, out, KIND, few.model_copy(update={"n_borderline": 1}))
    found = read_record(FalseRefusal, out / KIND.path())
    assert found.lacking is not None
    assert "there is one borderline instruction" in found.lacking
    assert "one borderline instruction" in " ".join(lines([found]))
