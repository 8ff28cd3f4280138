"""The whole mechanism on the bundled organism shows what the paper reports."""

from pathlib import Path

import pytest
from sessions import in_session
from shared_folder import made_once

from refusalscope.pipeline.mechanism import mechanism
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.mechanism_folder import MechanismRecords
from refusalscope.results.mechanism_records import (
    Heads,
    Region,
    SuffixConditionName,
    SuffixConditions,
)
from refusalscope.results.run_records import REPORT

pytestmark = pytest.mark.slow
FIGURES = (
    "suffixes",
    "heads",
    "attention",
    "first-harmful",
    "first-harmless",
    "metric",
    "trajectories",
    "base",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "organism-mechanism", explained)


def explained(out: Path) -> None:
    run(RunOptions(), out)
    in_session(mechanism, out, MechanismOptions())


@pytest.fixture(scope="module")
def records(folder: Path) -> MechanismRecords:
    """As they are: what was measured is not measured again."""
    return in_session(mechanism, folder, MechanismOptions())


@pytest.fixture
def suffixes(records: MechanismRecords) -> SuffixConditions:
    assert records.suffixes is not None
    return records.suffixes


@pytest.fixture
def heads(records: MechanismRecords) -> Heads:
    assert records.heads is not None
    return records.heads


def test_a_searched_suffix_undoes_refusal_and_a_random_one_does_not(suffixes: SuffixConditions):
    plain = suffixes.harmful.refusal.rate
    assert plain >= 0.95
    assert suffixes.harmful_adversarial_suffix.refusal.rate <= 0.30
    assert abs(suffixes.harmful_random_suffix.refusal.rate - plain) < 0.05


def test_the_suffix_takes_the_cosine_to_that_of_harmless_prompts_and_random_tokens_do_not(
    suffixes: SuffixConditions,
):
    for layer in (suffixes.layer, -1):
        plain, random, searched, harmless = (
            c.cosine_mean[layer]
            for c in (
                suffixes.harmful,
                suffixes.harmful_random_suffix,
                suffixes.harmful_adversarial_suffix,
                suffixes.harmless,
            )
        )
        gap = plain - harmless
        assert gap > 0.2
        assert abs(random - plain) < 0.1 * gap
        assert searched < plain - 0.7 * gap


def contribution(heads: Heads, name: SuffixConditionName) -> float:
    return sum(row.contribution[name] for row in heads.heads)


def attention(heads: Heads, name: SuffixConditionName, region: Region) -> float:
    return sum((row.attention or {})[name][region] for row in heads.heads)


def test_the_top_heads_write_less_under_the_suffix(heads: Heads):
    plain = contribution(heads, "harmful")
    assert contribution(heads, "harmful_adversarial_suffix") < 0.9 * plain
    assert contribution(heads, "harmful_random_suffix") > 0.9 * plain
    assert heads.sum_error < 1e-4


def test_attention_moves_to_the_suffix(heads: Heads):
    searched: SuffixConditionName = "harmful_adversarial_suffix"
    random: SuffixConditionName = "harmful_random_suffix"
    assert attention(heads, searched, "suffix") > attention(heads, random, "suffix")
    assert attention(heads, searched, "instruction") < attention(heads, random, "instruction")
    for row in heads.heads:
        for shares in (row.attention or {}).values():
            assert sum(shares.values()) == pytest.approx(1.0, abs=1e-4)
            assert shares["sink"] == 0.0


def test_the_top_heads_matter_more_than_any_of_twenty_draws_of_others(heads: Heads):
    assert heads.knock_out is not None
    assert len(heads.knock_out.random) == 20
    assert heads.knock_out.top < min(heads.knock_out.random)


def test_every_figure_is_on_the_page(folder: Path, records: MechanismRecords):
    assert records.base is not None
    assert records.trajectories is not None
    page = (folder / REPORT).read_text("utf-8")
    assert [name for name in FIGURES if f'id="chart-mechanism-{name}"' not in page] == []


def test_the_suffix_is_read_as_its_own_tokens(suffixes: SuffixConditions):
    assert suffixes.suffix.n_tokens == 20
    assert suffixes.suffix.n_read_differently <= 0.05 * suffixes.suffix.n_prompts
