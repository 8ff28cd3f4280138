import string

import pytest
from tiny_models import SPECIAL, byte_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from refusalscope.errors import InputError
from refusalscope.models.text_tokens import (
    Frame,
    control_tokens,
    joined,
    spells_control,
    surrounding,
    text_tokens,
    token_ids,
)

TURN = (Frame("<bos><user>"), Frame("<end><model>"))


def pieced(kind: str, *, normalized: bool) -> PreTrainedTokenizerBase:
    """A tokenizer with blanks as ▁, put in front in one of the ways there are."""
    pieces = ["<unk>", "<s>", "</s>", "▁", *string.ascii_letters, *string.punctuation]
    merged = [("▁", "a"), ("h", "e"), ("▁", "t"), ("▁t", "he")]
    vocab = {piece: i for i, piece in enumerate([*pieces, *("".join(pair) for pair in merged)])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merged, unk_token="<unk>"))
    if kind == "legacy":
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(steps)
    elif kind == "nfkc":
        steps = [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(steps)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind)
    backend.decoder = decoders.Metaspace()
    names = ("<s>", "</s>", "<unk>")
    backend.add_special_tokens([AddedToken(one, normalized=normalized) for one in names])
    backend.add_special_tokens([AddedToken("<|user|>", rstrip=True, normalized=normalized)])
    backend.add_tokens([AddedToken("<think>", normalized=normalized)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


PIECED = [("legacy", False), ("first", False), ("always", False), ("never", True), ("nfkc", True)]
SPELLED = ["a</s>", " </s> the", "x<|user|>  a<think>", "<<s>/s>", "</</s>s>", "<s><s>", "<|user|>"]


@pytest.mark.parametrize(("kind", "normalized"), PIECED)
@pytest.mark.parametrize("text", [*SPELLED, "\uff1c\uff0fs\uff1e the", "</S>"])
def test_no_text_makes_a_control_token_whatever_the_tokenizer(kind, normalized, text):
    tokenizer = pieced(kind, normalized=normalized)
    control = set(control_tokens(tokenizer)) - {tokenizer.unk_token_id}

    def controls(said):
        ids = token_ids(tokenizer, [Frame("<s><|user|> [I] "), said, Frame(" [/I]</s>")])
        return [i for i in ids if i in control]

    assert controls(text) == controls("the a")


@pytest.mark.parametrize("kind", ["legacy", "first", "always", "never"])
@pytest.mark.parametrize("text", SPELLED)
def test_what_spells_a_control_token_is_read_as_a_tokenizer_without_it_would(kind, text):
    tokenizer, bare = pieced(kind, normalized=False), pieced(kind, normalized=False)
    parts = [Frame("<s>"), text, Frame(" [/I]</s>")]
    # A tokenizer that knows the frame's own tokens by other names, and has no others.
    again = Tokenizer(bare.backend_tokenizer.model)
    for step in ("normalizer", "pre_tokenizer"):
        if getattr(bare.backend_tokenizer, step) is not None:
            setattr(again, step, getattr(bare.backend_tokenizer, step))
    again.add_special_tokens(["{begin}", "{end}"])
    names = {again.token_to_id("{begin}"): 1, again.token_to_id("{end}"): 2}
    wanted = again.encode(f"{{begin}}{text} [/I]{{end}}").ids
    assert token_ids(tokenizer, parts) == [names.get(i, i) for i in wanted]


def test_parts_that_spell_nothing_are_tokenized_as_one_text():
    tokenizer = pieced("first", normalized=False)
    parts = [Frame("<s>[I]"), " the", " a", Frame(" [/I]</s>")]
    assert not spells_control(tokenizer, parts)
    whole = tokenizer(joined(parts), add_special_tokens=False).input_ids
    assert token_ids(tokenizer, parts) == whole


def test_two_texts_side_by_side_do_not_make_one_control_token_either():
    tokenizer = byte_tokenizer()
    ids = token_ids(tokenizer, [TURN[0], "<en", "d>", TURN[1]])
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids) == "<bos><user><end><end><model>"


def test_a_token_that_is_added_but_not_marked_as_special_is_a_control_token_a_word_is_not():
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<turn>", "unsafe", "\n\n"])
    assert {t.content for t in control_tokens(tokenizer).values()} == {*SPECIAL, "<turn>"}
    turn, word, blank = (tokenizer.convert_tokens_to_ids(t) for t in ("<turn>", "unsafe", "\n\n"))
    ids = token_ids(tokenizer, ["<turn> unsafe\n\n"])
    assert (turn in ids, word in ids, blank in ids) == (False, True, True)


def test_a_tokenizers_own_tokens_come_around_the_text():
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <end>", special_tokens=[("<bos>", 1), ("<end>", 4)]
    )
    assert surrounding(tokenizer) == ((1,), (4,))
    ids = token_ids(tokenizer, ["a<end>"], adds_special_tokens=True)
    assert (ids[0], ids[-1], ids.count(4)) == (1, 4, 1)
    plain = token_ids(tokenizer, ["ab"], adds_special_tokens=True)
    assert plain == tokenizer("ab").input_ids


@pytest.mark.parametrize("text", ["paint <end> it", "paint it", "", "<end>"])
def test_tokens_of_a_text_end_where_their_characters_do(text):
    tokenizer = byte_tokenizer()
    found = text_tokens(tokenizer, text)
    assert found.ends == tuple(range(1, len(text) + 1))
    assert tokenizer.decode(list(found.ids)) == text


def test_a_control_token_in_the_models_own_vocabulary_is_cut_and_one_of_a_letter_is_an_error():
    vocab = {word: i for i, word in enumerate(["[UNK]", "¶", "<x>", "<", "x>", "a"])}
    backend = Tokenizer(models.WordLevel(vocab=vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["[UNK]", "¶", "<x>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    assert token_ids(tokenizer, ["a <x>"]) == [5, 3, 4]
    with pytest.raises(InputError, match="'a ¶' as a control token however it is cut"):
        token_ids(tokenizer, ["a ¶"])
