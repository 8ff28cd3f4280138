"""What a run's direction tells apart: words, harm, or what the model itself refuses."""

from collections.abc import Sequence

from refusalscope.activations.site_projections import site_projections
from refusalscope.errors import InstructionsError
from refusalscope.measures.contrast.pairs import pairs_of, separation
from refusalscope.measures.contrast.record import ContrastMeasure, ContrastOptions, Detection
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import candidates_of, chosen_direction
from refusalscope.results.deciding_judge import deciding_record
from refusalscope.results.records import CandidateScores, Selection
from refusalscope.results.run_records import SCORES, read_judgements, read_record


def measure(session: Session, options: ContrastOptions, _item: str = "") -> ContrastMeasure:
    """Pair training instructions by words; read refusals of the test instructions off r.

    Raises:
        RunFolderError: no run, or one without a direction.
        InstructionsError: the run's direction has no place, or no judge has judged its answers.
    """
    run = session.run
    vector, place = chosen_direction(run)
    judge, refused = _refused(run)
    return ContrastMeasure(
        position=place[0],
        layer=place[1],
        pairs=pairs_of(run, vector, place, seed=options.seed),
        judge=judge,
        n_refused=sum(flag is True for flag in refused),
        n_answered=sum(flag is False for flag in refused),
        n_harmless=len(run.sets["harmless"].instructions),
        detection=tuple(_detection(run, refused)),
    )


def _refused(run: RunContext) -> tuple[str, list[bool | None]]:
    """What the deciding judge says of the untouched answers to harmful test instructions."""
    judged = deciding_record("refusal", read_judgements(run.folder.path))
    if judged is None:
        raise InstructionsError(
            f"{run.folder.path} has no judgements of refusal; write them with: refusalscope judge "
            f"{run.folder.path}"
        )
    flags: list[bool | None] = [None] * len(run.sets["harmful"].instructions)
    for row in judged.rows:
        if (row.dataset, row.condition) == ("harmful", "baseline") and row.index < len(flags):
            flags[row.index] = row.flag
    return judged.judge, flags


def _detection(run: RunContext, refused: Sequence[bool | None]) -> list[Detection]:
    """A row for each candidate that is not zero."""
    candidates = candidates_of(run).vectors
    scores = read_record(Selection, run.folder.path / SCORES)
    known = {(row.position, row.layer): row for row in scores.candidates}
    harmful, harmless = (
        site_projections(run.chat, run.prompts(name), candidates, batch_size=run.options.batch_size)
        for name in ("harmful", "harmless")
    )
    rows = []
    for at, position in enumerate(run.chat.positions):
        for layer in range(run.chat.n_layers):
            if not bool(candidates[at, layer].any()):
                continue
            own = harmful[:, at, layer].tolist()
            harm = separation(own, harmless[:, at, layer].tolist())
            if harm is None:
                raise InstructionsError(
                    f"{len(own)} harmful and {len(harmless)} harmless test instructions; give at "
                    f"least two of each"
                )
            rows.append(
                Detection(
                    position=position,
                    layer=layer,
                    refusals=separation(
                        [one for one, flag in zip(own, refused, strict=True) if flag is True],
                        [one for one, flag in zip(own, refused, strict=True) if flag is False],
                    ),
                    harm=harm,
                    bypass=_of(known, position, layer, "bypass"),
                    induce=_of(known, position, layer, "induce"),
                )
            )
    return rows


def _of(
    known: dict[tuple[int, int], CandidateScores], position: int, layer: int, name: str
) -> float | None:
    row = known.get((position, layer))
    return None if row is None else getattr(row, name)
