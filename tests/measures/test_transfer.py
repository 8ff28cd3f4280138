"""Directions of other models, carried over: a planted map is found; a stranger carries nothing."""

from pathlib import Path
from shutil import copytree

import pytest
import torch
from sessions import in_session
from torch import Tensor

from refusalscope.errors import InputError, RunFolderError
from refusalscope.measures.transfer.page import lines, section, summary, verdict
from refusalscope.measures.transfer.record import Carried, Effect, Transfer, TransferOptions
from refusalscope.measures.transfer.ridge import fit_ridge
from refusalscope.metrics.intervals import rate_of
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_record

KIND = measure_named("transfer")


def drawn(n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_a_linear_map_between_models_is_found_and_carries_directions() -> None:
    source, planted = drawn(400, 12, 0), drawn(12, 20, 1)
    target = source @ planted + 3.0 + 0.01 * drawn(400, 20, 2)
    found = fit_ridge(source + 5.0, target)
    assert found.explained > 0.999
    assert found.penalty == 1e-4
    direction = drawn(1, 12, 3)[0]
    carried, right = direction @ found.weight, direction @ planted
    assert torch.nn.functional.cosine_similarity(carried, right, dim=0) > 0.9999


def test_a_model_that_shares_nothing_explains_nothing() -> None:
    found = fit_ridge(drawn(200, 40, 0), drawn(200, 8, 1))
    assert found.explained < 0.1
    assert found.penalty >= 1.0  # the largest shrinks most


def test_too_few_instructions_are_no_map() -> None:
    with pytest.raises(InputError, match="7 harmless instructions are too few"):
        fit_ridge(drawn(7, 4, 0), drawn(7, 4, 1))


@pytest.mark.slow
def test_a_direction_found_from_other_prompts_comes_over_and_random_ones_do_not(
    organism_run: Path, tmp_path: Path
) -> None:
    out = Path(copytree(organism_run, tmp_path / "run"))
    other = tmp_path / "other"
    run(RunOptions(n_train=32, n_val=8, n_test=8, random_suffix=0, seed=1), other, until="select")
    options = TransferOptions(sources=(str(other),), n_shared=256, n_random=2)
    in_session(measure, out, KIND, options)
    found = read_record(Transfer, out / KIND.path())
    (one,) = found.carried
    assert one.explained > 0.5
    assert one.cosine > 0.8
    assert one.plain_cosine is not None
    assert one.share is not None and one.share > 0.5
    assert [each.bypass.rate for each in one.random] == [1.0, 1.0]
    assert verdict(found, one).endswith("it comes over.")


@pytest.mark.parametrize("sources", [(), ("a", "a")])
def test_no_source_and_one_twice_is_one_line(organism_run: Path, sources: tuple[str, ...]) -> None:
    with pytest.raises((InputError, RunFolderError)):
        in_session(measure, organism_run, KIND, TransferOptions(sources=sources))


def effect(bypass: float, induce: float = 0.0) -> Effect:
    def rate(share: float) -> object:
        return rate_of([i < 20 * share for i in range(20)])

    return Effect.model_validate({"bypass": rate(bypass), "induce": rate(induce)})


def transfer(bypass: float, random: float, *, own: float = 0.0) -> Transfer:
    fall = 1.0 - own
    carried = Carried(
        source="runs/<other>",
        model="other",
        position=-1,
        layer=3,
        d_model=64,
        n_shared=512,
        penalty=0.1,
        explained=0.6,
        cosine=0.3,
        plain_cosine=None,
        effect=effect(bypass, 0.5),
        share=(1.0 - bypass) / fall if fall else None,
        change=None,
        random=(effect(random), effect(1.0)),
    )
    return Transfer(
        position=-2,
        layer=6,
        threshold=0.0,
        harmful=rate_of([True] * 20),
        harmless=rate_of([False] * 20),
        own=effect(own, 1.0),
        carried=(carried,),
    )


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (transfer(0.1, 1.0), "90 % of what the run's own does; random directions"),
        (transfer(0.1, 1.0), "it comes over."),
        (transfer(0.8, 1.0), "it does not come over."),
        (transfer(0.1, 0.2), "nothing is shown of the direction."),
        (transfer(1.0, 1.0, own=1.0), "there is nothing to compare."),
    ],
)
def test_the_sentence_weighs_the_direction_against_random_ones(found: Transfer, says: str) -> None:
    assert says in verdict(found, found.carried[0])
    assert verdict(found, found.carried[0]) in list(lines([found]))


def test_the_table_has_a_row_for_each_direction() -> None:
    found = transfer(0.1, 1.0)
    shown = section([found])
    assert shown is not None
    (table,) = shown.tables
    assert [row[0].partition("\n")[0] for row in table.rows] == [
        "the run's own",
        "other",
        "its random direction 1",
        "its random direction 2",
    ]
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert shown.n_intervals == 4 + 3 + 4
    assert summary([found])["runs/<other>"]["share"] == pytest.approx(0.9)  # pyright: ignore[reportIndexIssue]
