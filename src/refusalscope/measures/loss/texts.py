"""The paper's three texts: what each is read from, and what tells one reading from another."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from refusalscope.data.answer_pairs import AnswerPair, read_answer_pairs
from refusalscope.data.documents import read_documents
from refusalscope.pipeline.evaluation_options import LossOptions
from refusalscope.results.loss_records import TextName
from refusalscope.results.run_records import COMPLETIONS, read_dataset_completions


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One of the three texts: where it comes from, its raw pieces, and how one is tokenized."""

    name: TextName
    source: str
    n_asked: int | None
    max_tokens: int | None
    pieces: Callable[[], Iterator[str | AnswerPair]]

    def sha256(self) -> str:
        """Digest of the pieces, read from the beginning."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(line_of(piece))
        return digest.hexdigest()


def settings(folder: Path, options: LossOptions, name: str) -> Mapping[str, object]:
    """What the losses of one text depend on."""
    text = text_of(folder, options, name)
    return {
        "number of texts": text.n_asked,
        "limit of tokens in a document": text.max_tokens,
        "texts": text.sha256(),
    }


def text_of(folder: Path, options: LossOptions, name: str) -> Text:
    """One of the texts that are asked for.

    Raises:
        InputError: its file is not what is needed.
        RunFolderError: the run has no completions of harmless instructions.
    """
    if name == "pile" and options.pile is not None:
        return Text(
            name="pile",
            source=options.pile,
            n_asked=options.n_texts,
            max_tokens=options.max_tokens,
            pieces=partial(read_documents, Path(options.pile), n=options.n_texts),
        )
    if name == "alpaca" and options.alpaca is not None:
        pairs = read_answer_pairs(Path(options.alpaca), n=options.n_texts)
        return _chat_text("alpaca", options.alpaca, pairs, n_asked=options.n_texts)
    pairs = [
        AnswerPair(instruction=row.instruction, answer=row.text)
        for row in read_dataset_completions(folder, "harmless", "baseline")
    ]
    source = f"{COMPLETIONS}/harmless.baseline.jsonl"
    return _chat_text("on_distribution", source, pairs, n_asked=None)


def _chat_text(
    name: TextName, source: str, pairs: list[AnswerPair], *, n_asked: int | None
) -> Text:
    return Text(
        name=name, source=source, n_asked=n_asked, max_tokens=None, pieces=partial(iter, pairs)
    )


def line_of(piece: str | AnswerPair) -> bytes:
    """A piece of a text, as its digest takes it."""
    value = piece if isinstance(piece, str) else [piece.instruction, piece.answer]
    return (json.dumps(value) + "\n").encode()
