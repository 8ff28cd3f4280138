"""A judge's model loaded here: batched, one forward pass where the verdict is one word."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from refusalscope.engine.rows import Engine, Step
from refusalscope.engine.shared_prefixes import n_shared_tokens
from refusalscope.errors import InputError, ModelLoadError
from refusalscope.evaluation.answers import OnAnswer, RawAnswer
from refusalscope.evaluation.judge_kinds import JudgeKind, OneWord
from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.generate.answers import greedy_tokens
from refusalscope.generate.greedy import end_ids, until_stop
from refusalscope.models.chat_model import load_model, local_folder, weights_digest
from refusalscope.models.chat_parts import chat_parts
from refusalscope.models.chat_template import render_chat
from refusalscope.models.forward import require_finite
from refusalscope.models.load_options import LoadOptions
from refusalscope.models.prompts import Prompt
from refusalscope.models.text_tokens import Frame, Part, joined, token_ids
from refusalscope.models.tokens import begin_token, decode, pad_token


class LocalAnswerer:
    """Answers the prompts of one kind of judge by a model in memory, greedily.

    Where the kind's verdict is one word, the answer is the most probable next token and the score
    the probability of one word against the other; other kinds are generated from.

    Raises:
        ModelLoadError: no such model, or one that cannot be loaded, or has no tokenizer.
    """

    def __init__(
        self, kind: JudgeKind, source: str, *, options: LoadOptions, batch_size: int = 16
    ) -> None:
        folder = local_folder(source, options.revision)
        self._kind = kind
        self._source = source
        self._batch_size = batch_size
        self._tokenizer = _load_tokenizer(source, str(folder), options)
        self._net = load_model(source, options)
        self._weights = weights_digest(folder)
        self._words = None if kind.one_word is None else _word_tokens(self._tokenizer, kind)

    @property
    def model(self) -> str:
        """Where the model came from, with the digest of its weights."""
        return f"{self._source} sha256:{self._weights[:16]}"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """How it answers; batch size does not matter but for rounding."""
        own = {"runs": "here", "dtype": str(self._net.dtype).removeprefix("torch.")}
        return {**own, "max_new_tokens": 1 if self._words else self._kind.max_new_tokens}

    def answer(self, prompts: Sequence[JudgePrompt], on_answer: OnAnswer) -> None:
        """Answer prompts in batches of about equal length.

        Raises:
            InputError: the model's chat template cannot express the prompt.
            NumericalError: logits that are not finite.
        """
        encoded: list[Prompt] = []
        places: list[int] = []
        for at, prompt in enumerate(prompts):
            ids = self._encode(prompt)
            room = self._room()
            if len(ids) > room and not self._kind.keeps_end:
                failure = f"the prompt has {len(ids)} tokens and the judge reads {room}"
                on_answer(at, RawAnswer(text="", failure=failure))
                continue
            encoded.append(Prompt(ids=ids[-room:], n_post=0))
            places.append(at)
        if self._words is None:
            self._write(encoded, places, on_answer)
        else:
            self._weigh(encoded, places, on_answer, *self._words)

    def _weigh(
        self,
        prompts: Sequence[Prompt],
        places: Sequence[int],
        on_answer: OnAnswer,
        word: list[int],
        against: list[int],
    ) -> None:
        """The answer is the likeliest next token, the score that of one word against the other."""

        def verdicts(step: Step) -> tuple[list[int], list[float]]:
            logits = require_finite(step.logits).float()
            scores = word_probability(logits, word=word, against=against)
            return logits.argmax(-1).tolist(), scores.tolist()

        engine = Engine(
            model=self._net, pad_id=pad_token(self._tokenizer), batch_size=self._batch_size
        )
        n_shared = n_shared_tokens(prompts)
        for rows, (best, scores) in engine.run(prompts, verdicts, n_shared=n_shared):
            for row, token, score in zip(rows, best, scores, strict=True):
                text = decode(self._tokenizer, [token], skip_special=True)
                on_answer(places[row], RawAnswer(text=text, score=score))

    def _write(self, prompts: Sequence[Prompt], places: Sequence[int], on_answer: OnAnswer) -> None:
        """The answer is generated."""
        stops = end_ids(self._net, self._tokenizer)
        for rows, written in greedy_tokens(
            self._net,
            prompts,
            pad_id=pad_token(self._tokenizer),
            stops=stops,
            max_new_tokens=self._kind.max_new_tokens,
            batch_size=self._batch_size,
        ):
            for row, ids in zip(rows, written, strict=True):
                text = decode(self._tokenizer, until_stop(ids, stops), skip_special=True)
                on_answer(places[row], RawAnswer(text=text.strip()))

    def _encode(self, prompt: JudgePrompt) -> tuple[int, ...]:
        parts = self._render(prompt) if prompt.text is None else list(prompt.parts)
        lead = "" if self._kind.one_word is None else self._kind.one_word.lead
        if not joined(parts).endswith(lead):
            parts.append(Frame(lead))
        ids = token_ids(self._tokenizer, parts)
        begin = begin_token(self._tokenizer)
        if begin is not None and begin not in ids[:2]:
            # Some templates spell the begin token, after a space even; others leave it to us.
            ids.insert(0, begin)
        return tuple(ids)

    def _render(self, prompt: JudgePrompt) -> list[Part]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        what = f"what judge {self._kind.name} asks"
        parts = chat_parts(
            self._tokenizer,
            messages,
            partial(render_chat, self._tokenizer, what=what, thinks=None),
        )
        text = joined(parts)
        lost = [m.role for m in prompt.messages if m.content.strip() not in text]
        if lost:
            raise InputError(
                f"the chat template of {self._source} leaves out the {lost[0]} message; it is not "
                f"the template of a {self._kind.name} judge"
            )
        return parts

    def _room(self) -> int:
        config: Any = self._net.config.get_text_config()
        new = 1 if self._words else self._kind.max_new_tokens
        return int(getattr(config, "max_position_embeddings", 1 << 30)) - new


def word_probability(
    logits: Float[Tensor, "batch d_vocab"], *, word: Sequence[int], against: Sequence[int]
) -> Float[Tensor, " batch"]:
    """P(word) / (P(word) + P(against)) of the next token, each summed over its spellings.

    The first-token score of the Llama Guard model cards, freed of all other tokens.
    """
    pair = torch.stack([logits[:, list(ids)].logsumexp(-1) for ids in (word, against)], -1)
    return pair.softmax(-1)[:, 0]


def _word_tokens(
    tokenizer: PreTrainedTokenizerBase, kind: JudgeKind
) -> tuple[list[int], list[int]]:
    """Tokens that spell the word and the one against it, with or without a blank in front."""
    one: OneWord | None = kind.one_word
    assert one is not None
    found: list[list[int]] = []
    for word in (one.word, one.against):
        cases = (word, word.capitalize(), word.upper()) if one.in_any_case else (word,)
        texts = [text for case in cases for text in (case, f" {case}")]
        spelled = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        found.append(sorted({ids[0] for ids in spelled if len(ids) == 1}))
    if not all(found):
        raise ModelLoadError(
            f"the tokenizer of judge {kind.name} has no single token for {one.against!r} or for "
            f"{one.word!r}; it is not that judge's tokenizer"
        )
    return found[0], found[1]


def _load_tokenizer(source: str, folder: str, options: LoadOptions) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=options.trust_remote_code)
    except Exception as error:  # the tokenizers package raises bare Exception on damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(
            f"the tokenizer of {source} cannot be read ({reason}); a judge needs its own tokenizer "
            f"beside its weights"
        ) from error
