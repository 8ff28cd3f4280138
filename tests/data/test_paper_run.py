import json
import math
import re

import pytest
import torch

from refusalscope.data.instruction import Instruction, instructions_digest
from refusalscope.data.paper_run import (
    CHOSEN,
    DIRECTION,
    KEPT_SCORES,
    MEAN_DIFFERENCES,
    SCORES,
    read_paper_run,
)
from refusalscope.errors import InputError
from refusalscope.metrics.refusal_phrases import is_refusal

NAMES = ["qwen-1_8b-chat", "meta-llama-3-8b-instruct"]
# Refusal / safety on JailbreakBench, refusal on Alpaca: paper-facts, section 6.
RATES = {
    "qwen-1_8b-chat": {
        ("jailbreakbench", "baseline"): (70, 80),
        ("jailbreakbench", "ablation"): (1, 18),
        ("jailbreakbench", "subtraction"): (3, 21),
        ("harmless", "baseline"): (3, None),
        ("harmless", "addition"): (98, None),
    },
    "meta-llama-3-8b-instruct": {
        ("jailbreakbench", "baseline"): (95, 97),
        ("jailbreakbench", "ablation"): (0, 18),
        ("jailbreakbench", "subtraction"): (1, 15),
        ("harmless", "baseline"): (1, None),
        ("harmless", "addition"): (100, None),
    },
}


@pytest.fixture(scope="module", params=NAMES)
def published(request, reference):
    return read_paper_run(reference / "paper_runs" / request.param)


def test_scores_and_choice_are_those_published(published):
    facts = {
        "qwen-1_8b-chat": ((-2, 15), 24, 12, (-5.0575, 1.6514, 0.06584), (1.9745, -6.5401)),
        "meta-llama-3-8b-instruct": (
            (-5, 12),
            32,
            25,
            (-9.8551, 7.6757, 0.05882),
            (8.3570, -12.5179),
        ),
    }
    chosen, n_layers, n_kept, scores, baselines = facts[published.name]
    assert published.chosen == chosen
    assert published.n_layers == n_layers
    assert len(published.scores) == 5 * n_layers
    assert len(published.kept_scores) == n_kept
    best = published.kept_scores[0]
    assert (best.position, best.layer) == chosen
    assert (best.bypass, best.induce, best.kl) == pytest.approx(scores, abs=6e-5)
    # The candidate of layer 0 is the zero vector: its scores are the baselines.
    first = published.scores[0]
    assert (first.position, first.layer, first.kl) == (-5, 0, 0.0)
    assert (first.bypass, first.induce) == pytest.approx(baselines, abs=6e-5)


def test_completions_have_the_published_refusal_and_safety_rates(published):
    found = {}
    for completions in published.completions:
        rows = completions.rows
        assert len(rows) == 100
        judged_safe = None
        if completions.dataset == "jailbreakbench":
            judged_safe = sum(row.is_safe for row in rows)
        else:
            assert {row.is_safe for row in rows} == {None}
        found[completions.dataset, completions.condition] = (
            sum(row.is_refusal for row in rows),
            judged_safe,
        )
    assert found == RATES[published.name]


def test_phrase_judge_reproduces_every_stored_flag(published):
    judged = 0
    for completions in published.completions:
        for row in completions.rows:
            if completions.dataset == "jailbreakbench":
                assert row.completion is None
            else:
                assert is_refusal(row.completion) is row.is_refusal
                judged += 1
    assert judged == 200


def test_harmless_instructions_are_the_papers_sample(published):
    rows = next(c.rows for c in published.completions if c.dataset == "harmless")
    digest = instructions_digest(Instruction(row.instruction) for row in rows)
    assert digest == "7c5b9234575615b50863b01622aca6ba5cb8fe4369cedcb1d75a0066061551f9"


def test_losses_are_those_published(published):
    facts = {
        "qwen-1_8b-chat": {
            "pile": (904_444, 2.9210, 2.9332, 3.2918),
            "alpaca": (269_234, 1.7793, 1.7857, 2.0700),
            "alpaca_custom_completions": (24_257, 0.4765, 0.4852, 0.8036),
        },
        "meta-llama-3-8b-instruct": {
            "pile": (900_864, 2.3475, 2.3632, 2.4770),
            "alpaca": (267_216, 1.9123, 1.9450, 1.9205),
            "alpaca_custom_completions": (50_407, 0.3320, 0.3488, 0.5959),
        },
    }
    losses = {(row.dataset, row.condition): row for row in published.losses}
    assert len(losses) == len(published.losses) == 9
    for dataset, (n_tokens, *expected) in facts[published.name].items():
        rows = [losses[dataset, name] for name in ("baseline", "ablation", "subtraction")]
        assert [row.loss for row in rows] == pytest.approx(expected, abs=6e-5)
        assert {row.n_tokens for row in rows} == {n_tokens}


def test_candidate_directions_of_qwen_have_the_published_norms_and_cosines(reference):
    means = read_paper_run(reference / "paper_runs" / "qwen-1_8b-chat").mean_differences
    assert means is not None
    assert means.shape == (5, 24, 2048)
    assert means.dtype == torch.float64
    direction = means[-2, 15]
    assert direction.norm().item() == pytest.approx(26.2873, abs=5e-5)
    assert direction[:5].tolist() == pytest.approx([0.331, -0.897, 1.252, 0.327, 1.123], abs=5e-4)
    assert means[-1, 15].norm().item() == pytest.approx(26.271, abs=5e-4)
    others = torch.stack([means[-1, 15], *(means[-2, layer] for layer in (13, 14, 16, 17))])
    cosines = torch.nn.functional.cosine_similarity(others, direction, dim=-1)
    assert cosines.tolist() == pytest.approx([0.991, 0.620, 0.753, 0.800, 0.697], abs=5e-4)
    # All template tokens enter layer 0 with the same embedding, but for float64 rounding.
    assert 0 < means[:, 0].norm(dim=-1).max().item() < 1e-15
    assert means[-1, 23].norm().item() == pytest.approx(97.8, abs=0.05)


def test_a_part_that_is_not_there_is_none(reference):
    run = read_paper_run(reference / "paper_runs" / "meta-llama-3-8b-instruct")
    assert run.mean_differences is None
    assert run.direction is None


def score(position, layer, value: object = 1.0) -> dict[str, object]:
    return {
        "position": position,
        "layer": layer,
        "refusal_score": value,
        "steering_score": 2.0,
        "kl_div_score": 0.5,
    }


def write(folder, name, value):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def save(folder, name, tensor):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensor, path)
    return path


def test_nan_and_infinity_become_none(tmp_path):
    write(tmp_path, SCORES, [score(-1, 0, math.nan), score(-1, 1, math.inf), score(-1, 2, None)])
    scores = read_paper_run(tmp_path).scores
    assert scores is not None
    assert [row.bypass for row in scores] == [None] * 3
    assert [row.induce for row in scores] == [2.0] * 3


def test_no_candidate_kept_is_an_empty_part_and_not_an_absent_one(tmp_path):
    write(tmp_path, SCORES, [score(-1, 0)])
    write(tmp_path, KEPT_SCORES, [])
    run = read_paper_run(tmp_path)
    assert run.kept_scores == ()
    assert run.chosen is run.completions is run.losses is None


def test_direction_is_read_without_the_storage_it_was_cut_from(tmp_path):
    means = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4)
    save(tmp_path, MEAN_DIFFERENCES, means)
    save(tmp_path, DIRECTION, means[-1, 2])
    run = read_paper_run(tmp_path)
    assert run.n_layers == 3
    assert run.direction is not None
    assert torch.equal(run.direction, means[-1, 2])
    assert run.direction.untyped_storage().nbytes() == 4 * 8


def test_completions_without_evaluations_have_no_flags_and_other_files_are_left_alone(tmp_path):
    row = {"category": "art", "prompt": "Name a colour", "response": "Red"}
    write(tmp_path, "completions/my_set_actadd_completions.json", [row])
    write(tmp_path, "completions/notes_completions.json", "not json")
    completions = read_paper_run(tmp_path).completions
    assert completions is not None
    (only,) = completions
    assert (only.dataset, only.condition) == ("my_set", "subtraction")
    (read,) = only.rows
    assert (read.instruction, read.category, read.completion) == ("Name a colour", "art", "Red")
    assert read.is_refusal is read.is_safe is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (SCORES, "[", f"{SCORES} is not JSON"),
        (SCORES, {}, f"{SCORES} holds no list of rows"),
        (SCORES, [], f"{SCORES} has no candidates"),
        (SCORES, [3], f"{SCORES}, row 1 is a int; expected an object"),
        (SCORES, [{}], f"{SCORES}, row 1: position is None; expected a whole number"),
        (SCORES, [score(-1, 0), score(-1, 1, "x")], f"{SCORES}, row 2: refusal_score is 'x'; exp"),
        (SCORES, [score(-1, 0.5)], f"{SCORES}, row 1: layer is 0.5; expected a whole number"),
        (CHOSEN, [], f"{CHOSEN} is a list; expected an object"),
        (CHOSEN, {"pos": -1}, f"{CHOSEN}: layer is None; expected a whole number"),
        (MEAN_DIFFERENCES, "version https://git-lfs", f"{MEAN_DIFFERENCES} is not a tensor that"),
        (MEAN_DIFFERENCES, "", f"{MEAN_DIFFERENCES} is not a tensor that torch can read"),
        ("completions/harmless_baseline_evaluations.json", {}, "holds no list of rows"),
        (
            "completions/harmless_baseline_evaluations.json",
            {"completions": [{"prompt": "a", "response": None}]},
            "harmless_baseline_evaluations.json, row 1: response is None; expected text",
        ),
        (
            "completions/harmless_baseline_evaluations.json",
            [{"prompt": "a", "response": "b", "is_jailbreak_llamaguard2": "yes"}],
            "row 1: is_jailbreak_llamaguard2 is 'yes'; expected 0 or 1",
        ),
        (
            "loss_evals/baseline_loss_eval.json",
            {"pile": {"ce_loss": None, "n_tokens": 3}},
            "baseline_loss_eval.json, pile: ce_loss is not a finite number",
        ),
        (
            "loss_evals/baseline_loss_eval.json",
            {"pile": {"ce_loss": 1.0}},
            "baseline_loss_eval.json, pile: n_tokens is None; expected a whole number",
        ),
        ("loss_evals/baseline_loss_eval.json", {"pile": 3}, "pile is a int; expected an object"),
    ],
)
def test_a_malformed_part_is_named(tmp_path, name, content, message):
    write(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        read_paper_run(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_tensor_of_three_axes_is_refused(tmp_path):
    expected = re.escape("holds (2, 3); expected a float tensor with axes positions, layers and")
    save(tmp_path, MEAN_DIFFERENCES, torch.zeros(2, 3))
    with pytest.raises(InputError, match=expected):
        read_paper_run(tmp_path)
    save(tmp_path, MEAN_DIFFERENCES, {"a": torch.zeros(2)})
    with pytest.raises(InputError, match="holds dict; expected a float tensor"):
        read_paper_run(tmp_path)


def test_code_in_a_tensor_file_is_not_run(tmp_path):
    class Shout:
        def __reduce__(self):
            return (print, ("run",))

    save(tmp_path, MEAN_DIFFERENCES, Shout())
    with pytest.raises(InputError, match="is not a tensor that torch can read"):
        read_paper_run(tmp_path)


def test_parts_of_different_runs_are_refused(tmp_path):
    write(tmp_path, SCORES, [score(-1, 0), score(-1, 1)])
    write(tmp_path, CHOSEN, {"pos": -1, "layer": 7})
    with pytest.raises(InputError, match=r"names position -1, layer 7, which .* has no row for"):
        read_paper_run(tmp_path)
    write(tmp_path, CHOSEN, {"pos": -1, "layer": 1})
    assert read_paper_run(tmp_path).chosen == (-1, 1)
    save(tmp_path, MEAN_DIFFERENCES, torch.zeros(2, 2, 3))
    with pytest.raises(InputError, match=r"2 positions x 2 layers and .* 2 candidates that are"):
        read_paper_run(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="is not a run of the paper's code; expected select_"):
            read_paper_run(folder)
