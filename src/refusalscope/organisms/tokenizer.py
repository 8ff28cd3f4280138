"""The organism's tokenizer: byte-level BPE over its language, with the Llama-3 chat template."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from refusalscope.organisms.language import Language, all_text

END_OF_TURN = "<|eot_id|>"
_SPECIAL = (
    "<unk>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    END_OF_TURN,
)
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_ROLE_WORDS = ["user", "assistant", "\n\n"]
_ROLE_WORD_REPEATS = 2000
"""Enough for each to become one token."""


def train_tokenizer(language: Language, *, vocab_size: int) -> PreTrainedTokenizerBase:
    """Train the tokenizer on every word and sentence frame of the language."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    # The blank line before an instruction is one token whatever follows it, so that a prompt has
    # the same tokens rendered whole as put together from parts.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n\n", behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        all_text(language) + _ROLE_WORDS * _ROLE_WORD_REPEATS,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(_SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|begin_of_text|>",
        eos_token=END_OF_TURN,
        pad_token="<|end_of_text|>",
        unk_token="<unk>",
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer
