"""What a direction stands for: planted tokens, concepts and features are found again."""

from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import save_file
from sessions import in_session
from tiny_models import tiny_chat

from refusalscope.errors import InputError
from refusalscope.measures.meaning.features import features_of, pursue
from refusalscope.measures.meaning.page import (
    features_verdict,
    lines,
    moved_verdict,
    question_verdict,
    section,
    summary,
)
from refusalscope.measures.meaning.record import (
    QUESTION,
    Change,
    Concepts,
    Inversion,
    Meaning,
    MeaningOptions,
    Moved,
    TextToken,
    TokenEffect,
    VocabularyView,
)
from refusalscope.measures.meaning.vocabulary import (
    through_final_norm,
    through_unembedding,
    words_along,
)
from refusalscope.pipeline.measure import measure
from refusalscope.results.contrast_records import Separation
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_record

KIND = measure_named("meaning")


@pytest.fixture(scope="module")
def organism_record(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Meaning:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("meaning") / "run"))
    in_session(measure, out, KIND, MeaningOptions(n_prompts=8, n_pairs=100))
    return read_record(Meaning, out / KIND.path())


@pytest.mark.slow
def test_the_organism_s_direction_says_how_it_refuses(organism_record: Meaning) -> None:
    measured = organism_record.vocabulary[1]
    assert measured.view == "final norm"
    assert measured.n == 8
    promoted = {one.text.strip().lower() for one in measured.promoted}
    assert {"i", "assist", "'t"} <= promoted
    assert not promoted & {one.text.strip().lower() for one in measured.suppressed}


@pytest.mark.slow
def test_r_moves_refusal_both_ways_and_a_random_direction_does_not(
    organism_record: Meaning,
) -> None:
    moved = {(m.dataset, m.direction, m.is_control): m.refusal for m in organism_record.moved}
    assert len(moved) == 8
    added, taken = moved["harmless", "refusal", False], moved["harmful", "refusal", False]
    assert added.low is not None and added.low > 5
    assert taken.high is not None and taken.high < -5
    for dataset in ("harmless", "harmful"):
        assert abs(moved[dataset, "refusal", True].mean) < 2


@pytest.mark.slow
def test_an_organism_that_does_not_know_the_question_says_nothing(organism_record: Meaning) -> None:
    assert organism_record.inversion.lacking is None
    assert question_verdict(organism_record).startswith("The question is hardly understood")
    assert "moves what the model judges" not in moved_verdict(organism_record)


@pytest.mark.slow
def test_kinds_of_harm_lie_beside_chance(organism_record: Meaning) -> None:
    rows = organism_record.concepts.rows
    assert len(rows) >= 2
    assert all(-1 <= row.chance.low < 0 < row.chance.high <= 1 for row in rows)
    shown = section([organism_record])
    assert shown is not None
    assert [table.title for table in shown.tables] == [
        "What the direction says: tokens",
        "What the direction lies near: concepts",
        "Harm apart from refusal",
    ]
    assert shown.n_intervals == len(rows) + 16 + 1


def test_the_token_whose_unembedding_the_direction_is_is_promoted_most(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path)
    weight = chat.model.get_output_embeddings().weight.detach()  # pyright: ignore[reportOptionalMemberAccess]
    token = 77
    direction = 5 * weight[token] / weight[token].norm()
    seen = through_unembedding(chat, direction, n=3)
    assert seen is not None
    assert seen.promoted[0].token == token
    opposite = through_unembedding(chat, -direction, n=3)
    assert opposite is not None
    assert opposite.suppressed[0].token == token
    prompts = chat.encode(["ab", "ba c"])
    measured = through_final_norm(chat, 100 * direction, prompts, n=3, batch_size=1)
    assert measured.promoted[0].token == token
    assert measured.n == 2
    batched = through_final_norm(chat, 100 * direction, prompts, n=3, batch_size=2)
    assert [one.token for one in batched.promoted] == [one.token for one in measured.promoted]


def test_only_tokens_of_instructions_met_twice_are_listed(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path)
    embedding = chat.model.get_input_embeddings().get_parameter("weight").detach()
    harmful, harmless = chat.encode(["aab"]), chat.encode(["cab"])
    (token,) = set(chat.tokenizer("a", add_special_tokens=False).input_ids)
    rows = words_along(chat, embedding[token], layer=0, harmful=harmful, harmless=harmless, n=9)
    assert {row.text: (row.n, row.n_harmful) for row in rows} == {"a": (3, 2), "b": (2, 1)}
    assert rows[0].text == "a"
    assert rows[0].projection == pytest.approx(embedding[token].norm().item(), rel=1e-4)


def test_a_sum_of_features_is_taken_apart_again() -> None:
    generator = torch.Generator().manual_seed(0)
    units = torch.nn.functional.normalize(
        torch.randn(200, 64, generator=generator, dtype=torch.float64), dim=1
    )
    target = 3 * units[17] - 2 * units[101]
    chosen, explained = pursue(units, target / target.norm(), n=5)
    assert chosen[:2] == [17, 101]
    assert len(chosen) == 2  # nothing is left
    assert explained[0] < explained[1] == pytest.approx(1)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_dictionary_is_read_whichever_way_it_lies(tmp_path: Path, is_transposed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 16, generator=generator)
    path = tmp_path / "sae.safetensors"
    decoder = vectors.T.contiguous() if is_transposed else vectors
    save_file({"W_dec": decoder, "W_enc": vectors + 1, "b": vectors[0].clone()}, path)
    found = features_of(2 * vectors[7], MeaningOptions(dictionary=str(path), n_features=1))
    assert found is not None
    assert (found.n_features, found.rows[0].index) == (40, 7)
    assert found.rows[0].explained == pytest.approx(1)
    assert found.chance < 0.5
    assert "make up 100 % of the direction" in features_verdict(found)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"a": torch.zeros(3, 8)}, "does not have one matrix with a side of 16"),
        ({"a": torch.zeros(3, 16), "b": torch.zeros(3, 16)}, "does not have one matrix"),
        ({"a": torch.zeros(3, 16, dtype=torch.int64)}, "holds torch.int64 numbers"),
        ({"a": torch.full((3, 16), torch.nan)}, "some not finite"),
    ],
)
def test_what_is_no_dictionary_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], says: str
) -> None:
    path = tmp_path / "sae.safetensors"
    save_file(tensors, path)
    with pytest.raises(InputError, match=says):
        features_of(torch.ones(16), MeaningOptions(dictionary=str(path)))


def test_a_dictionary_with_nothing_along_the_direction_explains_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sae.safetensors"
    save_file({"decoder": torch.eye(16)[:3].contiguous()}, path)
    found = features_of(torch.eye(16)[9], MeaningOptions(dictionary=str(path)))
    assert found is not None
    assert [row.explained for row in found.rows] == [0.0]


def change(mean: float) -> Change:
    return Change(mean=mean, low=mean - 0.5, high=mean + 0.5, n=32)


def moved(direction: str, judged: float) -> Moved:
    return Moved.model_validate(
        {
            "dataset": "harmless",
            "direction": direction,
            "is_control": False,
            "refusal": change(9.0),
            "judged": change(judged),
        }
    )


def meaning(area: float, *, by_r: float, by_harm: float) -> Meaning:
    return Meaning(
        position=-1,
        layer=3,
        vocabulary=(),
        words=(),
        concepts=Concepts(source="<b>file</b>", rows=(), lacking="3 instructions name 0"),
        harmfulness_cosine=0.25,
        inversion=Inversion(
            question=QUESTION,
            yes="Certainly",
            no="No",
            told=Separation(area=area, low=area - 0.05, high=area + 0.05),
        ),
        moved=(moved("refusal", by_r), moved("harmfulness", by_harm)),
        features=None,
    )


@pytest.mark.parametrize(
    ("by_r", "by_harm", "says"),
    [
        (0.1, 3.0, "It moves what the model judges harmful; r moves refusing alone"),
        (3.0, 3.0, "Both move"),
        (3.0, 0.1, "the direction of harmfulness not"),
        (-3.0, 0.1, "Neither moves"),
    ],
)
def test_the_verdict_says_what_moves_the_judgement(by_r: float, by_harm: float, says: str) -> None:
    assert says in moved_verdict(meaning(0.9, by_r=by_r, by_harm=by_harm))


def test_the_table_of_tokens_has_a_row_for_each_rank() -> None:
    token = TokenEffect(token=1, text="a\nb", value=1.25)
    view = VocabularyView(view="final norm", promoted=(token, token), suppressed=(token,), n=4)
    words = (TextToken(text="x", projection=2.0, n=2, n_harmful=1),)
    found = meaning(0.9, by_r=0.1, by_harm=3.0)
    shown = section([found.model_copy(update={"vocabulary": (view,), "words": words})])
    assert shown is not None
    table = shown.tables[0]
    assert table.header == ("Rank", "Final norm +", "Final norm \N{MINUS SIGN}", "Instructions")
    assert [row[0] for row in table.rows] == ["1", "2"]
    assert "\n" not in table.rows[0][1]  # a line end of a token is no line end of a cell
    assert table.rows[0][3].endswith(" 2.0")
    assert table.rows[1][2:] == ("", "")


def test_a_direction_that_moves_no_more_than_a_random_one_moves_nothing() -> None:
    found = meaning(0.9, by_r=0.1, by_harm=3.0)
    control = moved("harmfulness", 2.9).model_copy(update={"is_control": True})
    beside = found.model_copy(update={"moved": (*found.moved, control)})
    assert "Neither moves" in moved_verdict(beside)
    small = control.model_copy(update={"judged": change(0.2)})
    beside = found.model_copy(update={"moved": (*found.moved, small)})
    assert "It moves what the model judges harmful" in moved_verdict(beside)


def test_a_question_that_is_not_understood_decides_nothing() -> None:
    found = meaning(0.6, by_r=3.0, by_harm=3.0)
    assert "hardly understood" in question_verdict(found)
    assert moved_verdict(found).endswith("has a cosine of 0.25 with r.")
    assert summary([found])["question_auroc"] == 0.6
    assert question_verdict(found) in list(lines([found]))
    shown = section([found])
    assert shown is not None
    assert "None was made: 3 instructions name 0" in shown.tables[1].caption


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (MeaningOptions(question="Is it bad?"), "has {instruction} 0 times"),
        (MeaningOptions(question="{instruction} {instruction}"), "has {instruction} 2 times"),
        (MeaningOptions(yes=" "), "--yes is ' '"),
        (MeaningOptions(no="a\nb"), "--no is"),
    ],
)
def test_a_question_that_cannot_be_put_is_one_line(
    organism_run: Path, options: MeaningOptions, says: str
) -> None:
    small = options.model_copy(update={"n_prompts": 1, "n_pairs": 1, "n_tokens": 1})
    with pytest.raises(InputError, match=says):
        in_session(measure, organism_run, KIND, small)
    assert not (organism_run / KIND.path()).exists()
