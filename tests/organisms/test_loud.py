"""One loud channel: difference in means fails, the mended estimates find what is there."""

from collections.abc import Generator
from typing import Any

import pytest
import torch
from loud_organism import LEVEL, MORE, partial_norms, save_loud

import refusalscope as rs
from refusalscope.metrics.refusal_phrases import refusal_phrase_in_answer
from refusalscope.models.batches import pad
from refusalscope.models.forward import last_token_logits
from refusalscope.results.estimator_records import Estimator

pytestmark = pytest.mark.slow
N_TEST = 20
SIZES: dict[str, Any] = {"n_train": 64, "n_val": 16, "n_test": N_TEST}
Found = dict[Estimator, rs.FoundDirection]


@pytest.fixture(scope="module")
def plain() -> rs.FoundDirection:
    """What is found in the bundled organism, which has no loud channel."""
    return rs.find_direction(rs.load("organism:llama3-aft"), **SIZES)


@pytest.fixture(scope="module")
def loud(plain: rs.FoundDirection, tmp_path_factory: pytest.TempPathFactory) -> Generator[Found]:
    """What three estimators find in the loud one."""
    vector = plain.direction.vector
    folder = save_loud(tmp_path_factory.mktemp("loud") / "loud", vector / vector.norm())
    names: tuple[Estimator, ...] = ("difference_in_means", "masked", "discriminant")
    with partial_norms(plain.model.d_model):
        model = rs.load(folder)
        yield {name: rs.find_direction(model, estimator=name, **SIZES) for name in names}


def n_refused(model: rs.Model, instructions: tuple[rs.Instruction, ...]) -> int:
    answers = model.answer(instructions)
    return sum(refusal_phrase_in_answer(text) is not None for text in answers)


def test_the_loud_organism_is_the_bundled_one(loud: Found, plain: rs.FoundDirection) -> None:
    own, theirs = loud["masked"].model.chat, plain.model.chat
    assert own.d_model == theirs.d_model + MORE
    prompts = theirs.encode([one.text for one in (*plain.harmful, *plain.harmless)])
    batch = pad(prompts, pad_id=theirs.pad_id, device=theirs.device)
    with torch.inference_mode():
        logits = [last_token_logits(chat.model, batch) for chat in (own, theirs)]
    # Not one of 41,000 logits moves by a bit on the machine where this was written.
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)


def test_the_check_names_the_channel_and_warns(loud: Found, plain: rs.FoundDirection) -> None:
    channel = plain.model.d_model
    rows = loud["difference_in_means"].extraction.channels
    assert {row.channel for row in rows if row.owns} == {channel}
    assert sum(row.owns for row in rows) > 0.9 * len(rows)
    assert sum(row.n_loud == 1 for row in rows) > 0.8 * len(rows)
    (text,) = loud["difference_in_means"].extraction.warnings
    assert "one residual channel is more than half of the difference in means at" in text
    assert f"channel {channel} is" in text
    assert not any(row.owns or row.n_loud for row in plain.extraction.channels)
    assert plain.extraction.warnings == ()


def test_difference_in_means_finds_nothing_that_passes(
    loud: Found, plain: rs.FoundDirection
) -> None:
    found = loud["difference_in_means"]
    assert plain.passes
    assert not found.passes
    vector = found.direction.vector
    assert (vector[plain.model.d_model] / vector.norm()).abs() > 0.9
    assert all(row.rejected for row in found.selection.candidates)


def test_the_masked_estimate_makes_the_choice_of_the_organism_without_the_channel(
    loud: Found, plain: rs.FoundDirection
) -> None:
    found, width = loud["masked"], plain.model.d_model
    assert (found.direction.position, found.direction.layer) == (
        plain.direction.position,
        plain.direction.layer,
    )
    torch.testing.assert_close(
        found.direction.vector[:width], plain.direction.vector, atol=1e-3, rtol=1e-3
    )
    assert not found.direction.vector[width:].any()


@pytest.mark.parametrize("name", ["masked", "discriminant"])
def test_a_mended_direction_does_what_that_of_the_bundled_organism_does(
    loud: Found, name: Estimator
) -> None:
    found = loud[name]
    model, direction, chosen = found.model, found.direction, found.selection.chosen
    assert found.passes
    assert chosen.induce is not None
    assert chosen.induce > 0
    assert chosen.kl is not None
    assert chosen.kl < 0.1
    assert n_refused(model, found.harmful) >= 0.95 * N_TEST
    assert n_refused(model, found.harmless) <= 0.05 * N_TEST
    with direction.ablated(model):
        assert n_refused(model, found.harmful) <= 0.05 * N_TEST
    with direction.subtracted(model):
        assert n_refused(model, found.harmful) <= 0.10 * N_TEST
    with direction.added(model):
        assert n_refused(model, found.harmless) >= 0.90 * N_TEST


def test_the_control_of_a_masked_direction_leaves_the_loud_channel_alone(loud: Found) -> None:
    """One with a tenth of its length there would push all others by a tenth of the channel."""
    found = loud["masked"]
    control = found.direction.random()
    assert not control.vector[found.model.d_model - MORE :].any()
    assert found.direction.norm / 2 < 0.1 * LEVEL
    with control.ablated(found.model):
        assert n_refused(found.model, found.harmful) >= 0.95 * N_TEST
        assert n_refused(found.model, found.harmless) <= 0.05 * N_TEST
    with control.added(found.model):
        assert n_refused(found.model, found.harmless) <= 0.05 * N_TEST
