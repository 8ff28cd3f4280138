"""Every estimator of candidates on the prompts of a run: what is chosen of each, and what it does.

Means and variances are read once for all, and a candidate that several estimators make, bit for
bit, is scored once. Scores are kept prompt by prompt in measures/estimators, so a measurement that
was killed scores nothing twice.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from refusalscope.activations.estimators import estimate
from refusalscope.errors import NumericalError, SelectionError
from refusalscope.measures.estimators.record import (
    Choice,
    CosmicScores,
    Estimators,
    EstimatorsOptions,
    Rival,
)
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.choose import kept_prompts, limits_of
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import (
    candidates_of,
    chosen_direction,
    metric_threshold,
    score_key,
)
from refusalscope.pipeline.training import kept_training, training_moments
from refusalscope.results.estimator_records import ESTIMATORS, PLAIN, Estimator
from refusalscope.results.measures import FOLDER
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import CandidateScores, Selection, SelectionLimits
from refusalscope.results.run_records import PROMPT_SCORES, SCORES, read_record
from refusalscope.selection.cosmic import rank_by_cosmic
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.score_book import ScoreBook
from refusalscope.selection.scorer import Candidate, whole
from refusalscope.selection.select import fails_kl, layer_limit
from refusalscope.selection.select_direction import SelectionPlan, select_direction
from refusalscope.selection.vector_effects import vector_effects

_LOG = logging.getLogger(__name__)
_BOOKS = f"{FOLDER}/estimators"
_N_LEADS = 4
"""Candidates of another estimator that are scored, beside that at the run's own place."""

_Vectors = Float[Tensor, "pos layer d_model"]


def measure(session: Session, options: EstimatorsOptions, _item: str = "") -> Estimators:
    """Choose from the candidates of every estimator by the run's rule, and of COSMIC's by its own.

    Raises:
        RunFolderError: no run, or one without a direction.
        NumericalError: NaN or infinite logits without intervention.
    """
    run = session.run
    compared = _Compared.of(run, options)
    vectors = _all_vectors(run)
    plain = vectors[PLAIN]
    assert plain is not None, "difference in means is always defined"
    own = vectors[run.options.estimator]
    assert own is not None, "the run's own candidates are there"
    compared.book(run.options.estimator, own)  # first: others make some of the same candidates
    by_name: dict[Estimator, Choice] = {}
    for name, made_by in vectors.items():
        same = _same_before(vectors, name)
        by_name[name] = (
            compared.choice(name, made_by)
            if same is None
            else by_name[same].model_copy(update={"name": name, "same_as": same, "sweeps": 0.0})
        )
    choices = [*by_name.values()]
    cosmic = None
    if options.cosmic:
        choice, cosmic = compared.by_cosmic(plain)
        choices.append(choice)
    places = [_place(choice) for choice in choices]
    made = [vectors.get(_estimator(choice), plain) for choice in choices]
    return compared.effects(choices, made, places, plain, cosmic)


def _estimator(choice: Choice) -> Estimator:
    return PLAIN if choice.name == "cosmic" else choice.name


def _place(choice: Choice) -> Candidate | None:
    return None if choice.chosen is None else (choice.chosen.position, choice.chosen.layer)


def _all_vectors(run: RunContext) -> dict[Estimator, _Vectors | None]:
    """The candidates of each estimator, the run's own as it stands; None where one is not defined.

    What the run has written is taken from there, so that its scores are known to be of it.
    """
    written = candidates_of(run)
    known = {PLAIN: written.tensors["mean_differences"], run.options.estimator: written.vectors}
    moments = training_moments(run, kept_training(run))
    found: dict[Estimator, _Vectors | None] = {}
    for name in ESTIMATORS:
        try:
            found[name] = (
                known[name]
                if name in known
                else estimate(
                    name, harmful=moments["harmful_train"], harmless=moments["harmless_train"]
                )
            )
        except NumericalError as error:
            _LOG.warning("the %s estimate is not compared: %s", name, error)
            found[name] = None
    return found


def _same_before(vectors: Mapping[Estimator, _Vectors | None], name: Estimator) -> Estimator | None:
    """The first estimator before this one that makes the same candidates, bit for bit."""
    own = vectors[name]
    for other in ESTIMATORS[: ESTIMATORS.index(name)]:
        theirs = vectors[other]
        if own is not None and theirs is not None and torch.equal(own, theirs):
            return other
    return None


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """What all choices are made on.

    Attributes:
        books: The scores of each estimator's candidates, with the candidates.
    """

    run: RunContext
    limits: SelectionLimits
    prompts: dict[str, list[Prompt]]
    direction: Float[Tensor, " d_model"]
    place: Candidate
    own: Selection
    is_proven: bool
    books: dict[Estimator, tuple[_Vectors, ScoreBook]] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunContext, options: EstimatorsOptions) -> "_Compared":
        candidates = candidates_of(run)
        vector, place = chosen_direction(run)
        return cls(
            run=run,
            limits=limits_of(run.study, candidates.facts),
            prompts=kept_prompts(run.study, candidates.facts),
            direction=vector.double(),
            place=place,
            own=read_record(Selection, run.folder.path / SCORES),
            is_proven=options.proven,
        )

    def choice(self, name: Estimator, vectors: _Vectors | None) -> Choice:
        """What the run's rule chooses of one estimator's candidates."""
        if vectors is None:
            return Choice(name=name, lacking="not defined on these prompts")
        if name == self.run.options.estimator:
            return self._chosen(name, self.own, sweeps=0.0)
        with self.run.progress.stage(name, None, unit="sweeps") as advance:
            try:
                selection = select_direction(
                    self.run.chat,
                    vectors,
                    harmful=self.prompts["harmful_val"],
                    harmless=self.prompts["harmless_val"],
                    refusal_tokens=self.run.refusal_tokens,
                    limits=self.limits,
                    plan=SelectionPlan(
                        n_leads=None if self.is_proven else _N_LEADS, also=[self.place]
                    ),
                    book=self.book(name, vectors),
                    progress=advance,
                )
            except SelectionError as error:
                return Choice(name=name, lacking=str(error))
        return self._chosen(name, selection, sweeps=selection.sweeps or 0.0)

    def _chosen(self, name: Estimator, selection: Selection, *, sweeps: float) -> Choice:
        return Choice(
            name=name,
            chosen=selection.chosen,
            failed_limits=selection.failed_limits,
            sweeps=sweeps,
        )

    def book(self, name: Estimator, vectors: _Vectors) -> ScoreBook:
        """Scores of these candidates: the run's own book for the run's own estimator."""
        if name in self.books:
            return self.books[name][1]
        is_own = name == self.run.options.estimator
        path = self.run.folder.path / (PROMPT_SCORES if is_own else f"{_BOOKS}/{name}.jsonl")
        book = ScoreBook(path, key=score_key(self.run, vectors, self.prompts))
        for others, known in self.books.values():
            same = (vectors == others).all(dim=-1) & vectors.any(dim=-1)
            n_positions = len(vectors)
            book.adopt(known, [(at - n_positions, layer) for at, layer in same.nonzero().tolist()])
        self.books[name] = (vectors, book)
        return book

    def by_cosmic(self, plain: _Vectors) -> tuple[Choice, CosmicScores]:
        """What COSMIC's rule chooses of difference in means."""
        chat, limits = self.run.chat, self.limits
        limit = layer_limit(chat.n_layers, limits)
        candidates = [
            (position, layer)
            for position in chat.positions
            for layer in range(chat.n_layers)
            if layer < limit and bool(plain[position, layer].any())
        ]
        harmful, harmless = (self.prompts[name] for name in ("harmful_val", "harmless_val"))
        with self.run.progress.stage("COSMIC", 1, unit="rankings") as advance:
            ranking = rank_by_cosmic(
                chat,
                plain,
                candidates,
                harmful=harmful,
                harmless=harmless,
                batch_size=self.run.options.batch_size,
            )
            advance(1)
        scorer = ModelScorer(
            chat,
            plain,
            harmful=harmful,
            harmless=harmless,
            refusal_tokens=self.run.refusal_tokens,
            formulas="paper" if limits.rule == "code" else "exact",
            book=self.book(PLAIN, plain),
        )
        facts = CosmicScores(
            layers=ranking.layers, n_first=ranking.n_first, n_whole=ranking.n_whole
        )
        sweeps = 2 * ranking.passes / (len(harmful) + len(harmless))
        for candidate, _ in ranking.ranked:
            (kl,) = scorer.score([whole("kl", candidate, scorer)])
            sweeps += 1
            if fails_kl(kl / len(harmless), limits) or math.isnan(kl):
                continue
            sums = scorer.score(
                [
                    whole("bypass", candidate, scorer),
                    whole("induce", candidate, scorer),
                ]
            )
            chosen = CandidateScores(
                position=candidate[0],
                layer=candidate[1],
                bypass=_mean(sums[0], len(harmful)),
                induce=_mean(sums[1], len(harmless)),
                kl=kl / len(harmless),
                rejected=None,
            )
            return Choice(name="cosmic", chosen=chosen, sweeps=sweeps + 2), facts
        lacking = (
            f"none of the {len(ranking.ranked)} that lead by COSMIC's scores is within the KL limit"
        )
        return Choice(name="cosmic", lacking=lacking, sweeps=sweeps), facts

    def effects(
        self,
        choices: Sequence[Choice],
        made: Sequence[_Vectors | None],
        places: Sequence[Candidate | None],
        plain: _Vectors,
        cosmic: CosmicScores | None,
    ) -> Estimators:
        """The record: what each chosen vector does to the first token of the test instructions."""
        run, threshold = self.run, metric_threshold(self.run)
        rows = [
            (at, vectors[place].double(), place)
            for at, (vectors, place) in enumerate(zip(made, places, strict=True))
            if vectors is not None and place is not None
        ]
        with run.progress.stage("effects", None, unit="sweeps") as advance:
            effects = vector_effects(
                run.chat,
                [(vector, layer) for _, vector, (_, layer) in rows],
                harmful=run.prompts("harmful"),
                harmless=run.prompts("harmless"),
                refusal_tokens=run.refusal_tokens,
                progress=advance,
            )

        def refused(metrics: Sequence[float]) -> list[bool]:
            return [metric > threshold for metric in metrics]

        found = {
            choices[at].name: (refused(bypass), refused(induce))
            for (at, _, _), bypass, induce in zip(rows, effects.bypass, effects.induce, strict=True)
        }
        shown = list(choices)
        for at, vector, place in rows:
            harmful, harmless = found[choices[at].name]
            changes = _changes(found.get(PLAIN), (harmful, harmless), name=choices[at].name)
            shown[at] = choices[at].model_copy(
                update={
                    "cosine_plain": cosine_similarity(vector, plain[place], dim=0).item(),
                    "cosine_run": cosine_similarity(vector, self.direction, dim=0).item(),
                    "harmful": rate_of(harmful),
                    "harmless": rate_of(harmless),
                    "harmful_change": changes[0],
                    "harmless_change": changes[1],
                }
            )
        return Estimators(
            run=run.options.estimator,
            position=self.place[0],
            layer=self.place[1],
            threshold=threshold,
            baseline_harmful=rate_of(refused(effects.harmful)),
            baseline_harmless=rate_of(refused(effects.harmless)),
            choices=tuple(shown),
            cosmic=cosmic,
            n_leads=None if self.is_proven else _N_LEADS,
        )


def _changes(
    before: tuple[list[bool], list[bool]] | None,
    after: tuple[list[bool], list[bool]],
    *,
    name: Rival,
) -> list[RateChange | None]:
    """From what difference in means does to both sets; none of that itself, or without it."""
    if before is None or name == PLAIN:
        return [None, None]
    return [
        paired_change(dict(enumerate(first)), dict(enumerate(second)))
        for first, second in zip(before, after, strict=True)
    ]


def _mean(total: float, n: int) -> float | None:
    return total / n if math.isfinite(total) else None
