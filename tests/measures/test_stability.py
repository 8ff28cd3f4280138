"""A direction under other prompts: what is drawn, what is compared, and what the page says."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sessions import in_session
from torch.nn.functional import cosine_similarity

from refusalscope.measures.stability.draws import Streams, spread
from refusalscope.measures.stability.measure import SIZES, enough
from refusalscope.measures.stability.page import section, sufficient
from refusalscope.measures.stability.record import (
    PromptStability,
    SizeRow,
    Spread,
    StabilityOptions,
)
from refusalscope.pipeline.measure import measure
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import MEAN_DIFFERENCES, read_record

KIND = measure_named("stability")
OPTIONS = KIND.options_of({"n_draws": 20, "n_scored": 2})


def measured_in(folder: Path) -> PromptStability:
    in_session(measure, folder, KIND, OPTIONS)
    return read_record(PromptStability, folder / KIND.path())


@pytest.fixture(scope="module")
def folder(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(copytree(organism_run, tmp_path_factory.mktemp("stability") / "run"))


@pytest.fixture(scope="module")
def record(folder: Path) -> PromptStability:
    return measured_in(folder)


def streams(n_harmful: int = 20, n_harmless: int = 30) -> Streams:
    generator = torch.Generator().manual_seed(0)
    apart = torch.zeros(6, dtype=torch.float64)
    apart[0] = 4
    harmful = torch.randn(n_harmful, 6, generator=generator, dtype=torch.float64) + apart
    harmless = torch.randn(n_harmless, 6, generator=generator, dtype=torch.float64)
    return Streams(estimator="difference_in_means", harmful=harmful, harmless=harmless)


def test_a_direction_of_some_prompts_is_their_difference_in_means() -> None:
    own = streams()
    expected = own.harmful[[1, 5, 7]].mean(0) - own.harmless[[0, 2]].mean(0)
    torch.testing.assert_close(own.direction([1, 5, 7], [0, 2]), expected)
    torch.testing.assert_close(own.direction(), own.harmful.mean(0) - own.harmless.mean(0))


def test_halves_share_no_prompt() -> None:
    """Prompts that are one-hot give directions at right angles where they share none."""
    eye = torch.eye(16, dtype=torch.float64)
    own = Streams(estimator="difference_in_means", harmful=eye[:8], harmless=eye[8:])
    assert [*own.halves(10, seed=0)] == pytest.approx([0.0] * 10)
    assert [*streams().halves(3, seed=0)] == [*streams().halves(3, seed=0)]
    assert [*streams().halves(3, seed=0)] != [*streams().halves(3, seed=1)]


def test_fewer_prompts_are_drawn_without_replacement() -> None:
    eye = torch.eye(16, dtype=torch.float64)
    own = Streams(estimator="difference_in_means", harmful=eye[:8], harmless=eye[8:])
    for vector in own.smaller(4, 10, seed=0):
        assert sorted(vector.tolist()) == [-0.25] * 4 + [0.0] * 8 + [0.25] * 4


def test_other_estimators_are_drawn_too() -> None:
    own = Streams(estimator="discriminant", harmful=streams().harmful, harmless=streams().harmless)
    assert cosine_similarity(own.direction(), streams().direction(), dim=0) != 1
    assert len([*own.smaller(8, 5, seed=0)]) == 5


def test_the_middle_of_draws() -> None:
    values = np.random.default_rng(0).normal(size=1000).tolist()
    found = spread(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((-1.96, 1.96), abs=0.2)


def row(n: int, low: float, bypass: float, induce: float, *, is_all: bool = False) -> SizeRow:
    def around(value: float) -> Spread:
        return Spread(mean=value, low=value, high=value)

    return SizeRow(
        n=n,
        cosine=Spread(mean=(1 + low) / 2, low=low, high=1.0),
        bypass=around(bypass),
        induce=around(induce),
        is_all=is_all,
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(8, 0.96, -9, 5), row(16, 0.97, -9, 5)], 8),
        ([row(8, 0.94, -9, 5), row(16, 0.97, -9, 5)], 16),
        ([row(8, 0.96, -7, 5), row(16, 0.97, -9, 5)], 16),  # 17 of 20 nats are too few
        ([row(8, 0.96, -9, 3), row(16, 0.97, -9, 5)], 16),
        ([row(8, 0.99, -9, 5), row(16, 0.94, -9, 5)], None),  # a larger one does not do
        ([], None),
    ],
)
def test_enough_is_the_smallest_from_which_all_do(
    rows: list[SizeRow], expected: int | None
) -> None:
    assert enough([*rows, row(32, 1.0, -10, 5, is_all=True)], 10.0, -5.0) == expected


def test_the_streams_are_those_of_the_run(record: PromptStability, folder: Path) -> None:
    assert (record.n_harmful, record.n_harmless) == (32, 32)
    assert record.sizes[-1].is_all
    assert [one.n for one in record.sizes] == [*(n for n in SIZES if n < 32), 32]
    plain = load_file(folder / MEAN_DIFFERENCES)["mean_differences"]
    assert plain[record.position, record.layer].norm() > 0


def test_the_direction_of_the_organism_hardly_depends_on_its_prompts(
    record: PromptStability,
) -> None:
    assert record.halves.low > 0.9
    assert record.enough is not None
    assert record.enough <= 16
    assert len(record.categories) > 3
    assert sum(one.n for one in record.categories) == record.n_harmful
    assert all(0.95 < one.cosine < 1 for one in record.categories)
    for one in record.sizes:
        assert one.cosine.low <= one.cosine.mean <= one.cosine.high
        assert one.bypass.mean < 0 < one.induce.mean
    assert record.baseline_harmful > 0 > record.baseline_harmless


def test_rivals_are_scored_in_full_and_take_part(record: PromptStability) -> None:
    assert record.choice.n_candidates >= StabilityOptions().n_rivals
    assert sum(one.share for one in record.choice.winners) + record.choice.none == pytest.approx(
        1, abs=1e-9
    )


def test_the_same_draws_give_the_same_bytes(
    record: PromptStability, organism_run: Path, tmp_path: Path
) -> None:
    again = Path(copytree(organism_run, tmp_path / "run"))
    assert measured_in(again) == record


def test_the_page_says_how_many_prompts_do(record: PromptStability) -> None:
    found = section([record])
    assert found is not None
    (chart,) = found.charts
    assert chart.caption.startswith(f"{record.enough} prompts of each kind do as well as all 32")
    assert len({len(one) for one in chart.rows} | {len(chart.header)}) == 1
    few = record.model_copy(update={"enough": None})
    assert sufficient(few).startswith("No smaller number of prompts does as well as all 32")
