"""Loss of the paper's three texts under a finished run's conditions (Table 9)."""

import hashlib
from collections.abc import Iterator, Mapping

from refusalscope.data.answer_pairs import AnswerPair
from refusalscope.evaluation.loss import text_loss
from refusalscope.interventions.intervention import Intervention
from refusalscope.measures.loss.page import names
from refusalscope.measures.loss.texts import Text, line_of, text_of
from refusalscope.models.scored_text import ScoredText, scored_answer, scored_document
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.evaluation_options import PAPER_MAX_TOKENS, LossOptions
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import LOSS_CONDITIONS, conditions
from refusalscope.results.loss_records import TextLosses, TextName
from refusalscope.results.records import Condition


def measure(session: Session, options: LossOptions, name: str) -> TextLosses:
    """Loss of one text.

    Raises:
        RunFolderError: no run, or one without a direction.
        InputError: a file is not what is needed.
    """
    text = text_of(session.folder, options, name)
    run = session.run
    return _loss(run, text, options, conditions(run, LOSS_CONDITIONS))


def losses_as_it_is(run: RunContext, options: LossOptions) -> dict[TextName, float]:
    """The loss of every text asked for under the run's model as it stands; nothing is written.

    Raises:
        InputError: no text was asked for, or a file is not what is needed.
    """
    texts = [text_of(run.folder.path, options, name) for name in names(options)]
    return {text.name: _loss(run, text, options, {"baseline": None}).rows[0].loss for text in texts}


def _loss(
    run: RunContext,
    text: Text,
    options: LossOptions,
    interventions: Mapping[Condition, Intervention | None],
) -> TextLosses:
    digest = hashlib.sha256()
    merged = 0

    def scored() -> Iterator[ScoredText]:
        nonlocal merged
        for piece in text.pieces():
            digest.update(line_of(piece))
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


def _scored(run: RunContext, text: Text, piece: str | AnswerPair) -> ScoredText:
    if isinstance(piece, AnswerPair):
        chat = run.chat
        return scored_answer(
            chat.prompt_format, piece.instruction, piece.answer, family=chat.family
        )
    return scored_document(
        run.chat.tokenizer, piece, max_tokens=text.max_tokens or PAPER_MAX_TOKENS
    )
