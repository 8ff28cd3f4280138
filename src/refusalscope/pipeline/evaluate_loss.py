"""Loss of the paper's three texts under a finished run's conditions (Table 9)."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from refusalscope.data.answer_pairs import AnswerPair, read_answer_pairs
from refusalscope.data.documents import read_documents
from refusalscope.errors import InputError
from refusalscope.evaluation.loss import text_loss
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.scored_text import ScoredText, scored_answer, scored_document
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.evaluation_options import PAPER_MAX_TOKENS, LossOptions
from refusalscope.pipeline.refresh import refresh_summary
from refusalscope.pipeline.reopen import require_same
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import LOSS_CONDITIONS, conditions
from refusalscope.results.files import write_file
from refusalscope.results.loss_records import TextLosses, TextName
from refusalscope.results.records import Condition
from refusalscope.results.run_records import (
    COMPLETIONS,
    TEXT_LOSSES,
    read_dataset_completions,
    read_record,
    read_run,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
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
            digest.update(_line(piece))
        return digest.hexdigest()


def loss_of_texts(session: Session, options: LossOptions) -> list[TextLosses]:
    """Loss of every text asked for, written to evaluation/loss/TEXT.json.

    A text whose file is there is not read again. Summary and report are written anew.

    Raises:
        RunFolderError: no run, or one without a direction.
        InputError: no text was asked for, or a file is not what is needed.
        OutputError: a text's file is there already, with other settings.
    """
    folder = session.folder
    read_run(folder)
    texts = _texts(folder, options)
    found = {text.name: _existing(folder, text) for text in texts}
    open_texts = [text for text in texts if found[text.name] is None]
    if open_texts:
        run = session.run
        interventions = conditions(run, LOSS_CONDITIONS)
        for text in open_texts:
            record = _loss(run, text, options, interventions)
            write_file(folder / TEXT_LOSSES / f"{text.name}.json", record.to_json())
            found[text.name] = record
        refresh_summary(folder)
    return [record for record in found.values() if record is not None]


def losses_as_it_is(run: RunContext, options: LossOptions) -> dict[TextName, float]:
    """The loss of every text asked for under the run's model as it stands; nothing is written.

    Raises:
        InputError: no text was asked for, or a file is not what is needed.
    """
    texts = _texts(run.folder.path, options)
    return {text.name: _loss(run, text, options, {"baseline": None}).rows[0].loss for text in texts}


def _texts(folder: Path, options: LossOptions) -> list[_Text]:
    texts = []
    if options.pile is not None:
        texts.append(
            _Text(
                name="pile",
                source=options.pile,
                n_asked=options.n_texts,
                max_tokens=options.max_tokens,
                pieces=partial(read_documents, Path(options.pile), n=options.n_texts),
            )
        )
    if options.alpaca is not None:
        pairs = read_answer_pairs(Path(options.alpaca), n=options.n_texts)
        texts.append(_chat_text("alpaca", options.alpaca, pairs, n_asked=options.n_texts))
    if options.on_distribution:
        pairs = [
            AnswerPair(instruction=row.instruction, answer=row.text)
            for row in read_dataset_completions(folder, "harmless", "baseline")
        ]
        source = f"{COMPLETIONS}/harmless.baseline.jsonl"
        texts.append(_chat_text("on_distribution", source, pairs, n_asked=None))
    if not texts:
        raise InputError("give at least one of --pile FILE, --alpaca FILE and --on-distribution")
    return texts


def _chat_text(
    name: TextName, source: str, pairs: list[AnswerPair], *, n_asked: int | None
) -> _Text:
    return _Text(
        name=name, source=source, n_asked=n_asked, max_tokens=None, pieces=partial(iter, pairs)
    )


def _existing(folder: Path, text: _Text) -> TextLosses | None:
    path = folder / TEXT_LOSSES / f"{text.name}.json"
    if not path.is_file():
        return None
    record = read_record(TextLosses, path)
    require_same(
        path,
        ("number of texts", text.n_asked, record.n_asked),
        ("limit of tokens in a document", text.max_tokens, record.max_tokens),
        ("texts", text.sha256(), record.sha256),
    )
    return record


def _loss(
    run: RunContext,
    text: _Text,
    options: LossOptions,
    interventions: Mapping[Condition, Intervention | None],
) -> TextLosses:
    digest = hashlib.sha256()
    merged = 0

    def scored() -> Iterator[ScoredText]:
        nonlocal merged
        for piece in text.pieces():
            digest.update(_line(piece))
            one = _scored(run, text, piece)
            merged += not one.is_found
            yield one

    with run.progress.stage(text.name, text.n_asked, unit="texts") as advance:
        rows = text_loss(
            run.chat,
            scored(),
            dataset=text.name,
            interventions=interventions,
            batch_size=options.batch_size or run.options.batch_size,
            progress=advance,
        )
    return TextLosses(
        text=text.name,
        source=text.source,
        sha256=digest.hexdigest(),
        max_tokens=text.max_tokens,
        n_asked=text.n_asked,
        n_tail_merged=merged,
        rows=tuple(rows),
    )


def _scored(run: RunContext, text: _Text, piece: str | AnswerPair) -> ScoredText:
    if isinstance(piece, AnswerPair):
        chat = run.chat
        return scored_answer(
            chat.prompt_format, piece.instruction, piece.answer, family=chat.family
        )
    return scored_document(
        run.chat.tokenizer, piece, max_tokens=text.max_tokens or PAPER_MAX_TOKENS
    )


def _line(piece: str | AnswerPair) -> bytes:
    value = piece if isinstance(piece, str) else [piece.instruction, piece.answer]
    return (json.dumps(value) + "\n").encode()
