from types import SimpleNamespace

from refusalscope.report.loss_table import loss_table
from refusalscope.report.provenance import all_warnings, describe_provenance


def test_the_facts_name_model_direction_and_limits(sample: SimpleNamespace):
    found = describe_provenance(sample.run())
    assert dict(found.model)["architecture"] == "Qwen3ForCausalLM"
    assert dict(found.model)["weights sha256"] == "3f9c" * 16
    assert dict(found.direction)["layer"] == "7 of 12, counted from 0"
    assert dict(found.limits)["KL"] == "below 0.1 nats"
    assert found.refusal_tokens == ((40, "I"), (92, "Sorry"))
    assert found.post_instruction_tokens[2] == (-2, "<|assistant|>")
    assert found.command == "refusalscope run --out runs/demo --seed 0"


def test_the_same_instruction_counts_are_listed_once(sample: SimpleNamespace):
    assert [row.name for row in describe_provenance(sample.run()).inputs] == [
        "harmful train",
        "harmless train",
        "harmful validation",
        "harmless validation",
    ]


def test_what_an_unfinished_run_lacks_is_not_measured(sample: SimpleNamespace):
    found = describe_provenance(sample.run(selection=None, direction=None, extraction=None))
    assert found.direction == (("direction", "not measured"),)
    assert found.limits == (("limits", "not measured"),)


def test_the_paper_codes_limits_are_worded_with_their_edges(sample: SimpleNamespace):
    selection = sample.selection()
    limits = selection.limits.model_copy(update={"rule": "code"})
    run = sample.run(selection=selection.model_copy(update={"limits": limits}))
    assert dict(describe_provenance(run).limits)["KL"] == "at most 0.1 nats"


def test_every_warning_is_kept_once_and_those_of_the_numbers_come_first(sample: SimpleNamespace):
    selection = sample.selection().model_copy(update={"warnings": ("few candidates", "shared")})
    run = sample.with_warnings(sample.run(selection=selection), "shared", "dropped 3")
    assert all_warnings(run, ["control moved"]) == (
        "control moved",
        "shared",
        "dropped 3",
        "few candidates",
    )


def test_losses_are_laid_out_with_their_change_from_baseline(sample: SimpleNamespace):
    table = loss_table(sample.losses())
    assert table is not None
    assert table.conditions == ("baseline", "ablation", "subtraction")
    assert table.rows[0] == (
        "organism text",
        "256 texts, 41\u202f233 tokens",
        (("1.204", ""), ("1.207", "+0.003"), ("1.231", "+0.027")),
    )


def test_a_loss_that_is_missing_is_not_measured(sample: SimpleNamespace):
    losses = sample.losses()
    table = loss_table(losses.model_copy(update={"rows": losses.rows[:5]}))
    assert table is not None
    assert table.rows[1][2][2] == ("not measured", "")
    assert loss_table(None) is None
