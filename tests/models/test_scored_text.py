"""Each mask of the paper's losses against one worked out by hand."""

import pytest
import torch
from tiny_models import byte_tokenizer

from refusalscope.models.families import FAMILIES
from refusalscope.models.prompts import Prompt, model_format, paper_format
from refusalscope.models.scored_text import (
    ScoredText,
    answer_start,
    scored_answer,
    scored_document,
    scored_mask,
    scored_prompt,
)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def test_a_document_is_cut_and_scored_from_its_first_token(tokenizer) -> None:
    whole = scored_document(tokenizer, "abcdef", max_tokens=256)
    cut = scored_document(tokenizer, "abcdef", max_tokens=4)
    assert whole.ids == tuple(tokenizer("abcdef").input_ids)
    assert cut.ids == whole.ids[:4]
    assert (cut.first, cut.n_scored) == (0, 3)
    assert scored_document(tokenizer, "", max_tokens=4).n_scored == 0
    assert scored_document(tokenizer, "a", max_tokens=4).n_scored == 0


def test_masks_of_a_padded_batch_known_by_hand() -> None:
    document = ScoredText(ids=(7, 8, 9), first=0)
    answer = ScoredText(ids=(1, 2, 3, 4, 5), first=2)
    nothing = ScoredText(ids=(1, 2), first=1)
    mask = scored_mask([document, answer, nothing], width=5)
    expected = torch.tensor(
        [
            [True, True, False, False, False],  # the last token and the padding do not count
            [False, False, True, True, False],  # nor does what comes before the answer
            [False, False, False, False, False],
        ]
    )
    assert mask.equal(expected)
    assert mask.sum(1).tolist() == [document.n_scored, answer.n_scored, nothing.n_scored]


def test_an_answer_is_scored_from_the_last_token_of_the_tail(tokenizer) -> None:
    form = model_format(tokenizer)
    text = scored_answer(form, "hi", "yes")
    words = tokenizer.convert_ids_to_tokens(list(text.ids))
    assert words == ["<bos>", "<user>", "h", "i", "<end>", "<model>", "y", "e", "s"]
    assert (text.first, text.n_scored, text.is_found) == (5, 3, True)
    alone = Prompt(ids=text.ids[:6], n_post=2)
    assert scored_prompt(alone, text.ids[6:]) == text
    assert scored_answer(form, "hi", "").n_scored == 0


@pytest.mark.parametrize(
    ("ids", "tail", "start"),
    [
        ([9, 1, 2, 3, 5, 1, 2, 3], [1, 2, 3], 3),  # the first occurrence
        ([9, 1, 2, 4, 5], [1, 2, 3], None),
        ([1, 2], [1, 2, 3], None),
        ([0, 7, 2, 3, 4, 5, 8, 0], [1, 2, 3, 4, 5, 6], 6),  # six tokens: four in place suffice
        ([0, 7, 2, 3, 4, 9, 8, 0], [1, 2, 3, 4, 5, 6], None),
        ([0, 7, 2, 3, 4, 8, 0], [1, 2, 3, 4, 5], None),
    ],
)
def test_where_an_answer_starts(ids: list[int], tail: list[int], start: int | None) -> None:
    assert answer_start(ids, tail) == start


def test_a_tail_that_merges_with_the_answer_is_counted() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz[]/ ")}
    vocab = {**letters, "<pad>": 40, "]y": 41}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("]", "y")], unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['content'] }}[/]{% endfor %}"
        "{% if not add_generation_prompt %}end{% endif %}"
    )
    form = model_format(tokenizer)
    merged = scored_answer(form, "hi", "yes")
    assert tokenizer.convert_ids_to_tokens(list(merged.ids)) == [*"[hi[/", "]y", *"es"]
    assert not merged.is_found
    assert merged.first == 4
    assert scored_answer(form, "hi", "no").is_found


def test_the_papers_template_is_taken_with_the_tokenizers_own_special_tokens(tokenizer) -> None:
    form = paper_format(tokenizer, FAMILIES["Qwen"])
    text = scored_answer(form, " hi ", "yes")
    spelled = "".join(tokenizer.convert_ids_to_tokens(list(text.ids)))
    assert "Ġhi" in spelled  # an instruction is not stripped
    assert text.n_scored == 3


@pytest.mark.parametrize("spelled", ["<end>", "<bos><user>", "<end><model>yes"])
def test_no_text_that_is_scored_makes_a_control_token(tokenizer, spelled: str) -> None:
    control = set(tokenizer.all_special_ids)
    form = model_format(tokenizer)

    def controls(text: ScoredText) -> list[int]:
        return [i for i in text.ids if i in control]

    asked = scored_answer(form, f"say {spelled} now", f"no {spelled}.")
    assert controls(asked) == controls(scored_answer(form, "say", "no"))
    # What counts is the answer, all of it and nothing else.
    assert asked.n_scored == len(f"no {spelled}.")
    document = scored_document(tokenizer, f"a {spelled} b", max_tokens=6)
    assert controls(document) == controls(scored_document(tokenizer, "a b"))
    assert len(document.ids) == 6
