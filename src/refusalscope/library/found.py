"""What `find_direction` finds: the direction, all scores, and why it was chosen."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from plotly.graph_objects import Figure
from torch import Tensor

from refusalscope.data.instruction import Instruction
from refusalscope.errors import InputError
from refusalscope.library.direction import Direction
from refusalscope.library.html import html_table
from refusalscope.library.model import Model
from refusalscope.library.plots import score_figure
from refusalscope.library.tables import score_table
from refusalscope.report.choice import nearest_sentence
from refusalscope.report.visible_text import token_label
from refusalscope.report.wording import number, position_name
from refusalscope.results.records import ExtractionFacts, RefusalTokens, Selection


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class FoundDirection:
    """The direction that a search chose, and all that the search saw.

    Attributes:
        direction: The chosen one.
        model: The model as it was asked: where all its answers begin alike, and neither it nor the
            caller says with what, that beginning is in its prompts.
        refusal_tokens: First tokens that mark a refusal: `ids`, `strings`, and their `source`.
        selection: The record of the choice: limits, baselines, every candidate, stability.
        extraction: The record of what came before: counts, labels, calibration, warnings.
        candidates: What the estimator made, at every post-instruction position and layer, float64.
        harmful: Instructions that had no part in finding it, to try it on.
        harmless: As `harmful`.

    Examples:
        >>> import refusalscope as rs
        >>> model = rs.load("organism:llama3-aft")
        >>> found = rs.find_direction(model, n_train=16, n_val=8)
        >>> found.passes, found.failed_limits
        (True, ())
        >>> len(found.scores()) == len(found.selection.candidates)
        True
    """

    direction: Direction
    model: Model
    refusal_tokens: RefusalTokens
    selection: Selection
    extraction: ExtractionFacts
    candidates: Float[Tensor, "pos layer d_model"]
    harmful: tuple[Instruction, ...]
    harmless: tuple[Instruction, ...]

    @property
    def passes(self) -> bool:
        """Whether it is within every limit; if not, it is the one that came nearest."""
        return not self.selection.nearest

    @property
    def failed_limits(self) -> tuple[str, ...]:
        """The limits that it fails: induce, kl; none where it passes."""
        return self.selection.failed_limits

    @property
    def reason(self) -> str:
        """Why this one was chosen, in a sentence or two."""
        chosen, limits = self.selection.chosen, self.selection.limits
        place = f"position {position_name(chosen.position)}, layer {chosen.layer}"
        nearest = nearest_sentence(self.selection)
        why = nearest or (
            f"It has the lowest bypass ({number(chosen.bypass, 2)}) of the candidates with induce "
            f"above {number(limits.min_induce, 2)} (its own: {number(chosen.induce, 2)}), KL below "
            f"{limits.max_kl:g} (its own: {number(chosen.kl)}) and layer below "
            f"{limits.max_layer_fraction:g} of {self.selection.n_layers}."
        )
        return f"Chosen: {place}. {why}"

    def rejected(self) -> dict[str, int]:
        """How many candidates cannot be chosen, by the reason; `outranked` were not scored in full.

        Examples:
            >>> import refusalscope as rs
            >>> model = rs.load("organism:llama3-aft")
            >>> rs.find_direction(model, n_train=16, n_val=8).rejected()["late layer"] > 0
            True
        """
        return dict(Counter(row.rejected for row in self.selection.candidates if row.rejected))

    def scores(self) -> Any:  # noqa: ANN401 - a frame where pandas is installed
        """Every candidate's scores, in nats: `pandas.DataFrame`, or a list of rows without pandas.

        Columns: position, layer, bypass, induce, kl, rejected (the limit that it fails; empty for
        those that pass), chosen. A score that the choice did not depend on is missing;
        `find_direction(..., all_scores=True)` has them all.

        Examples:
            >>> import refusalscope as rs
            >>> model = rs.load("organism:llama3-aft")
            >>> table = rs.find_direction(model, n_train=16, n_val=8).scores()
            >>> len(table)
            60
        """
        return score_table(self.selection)

    def candidate(self, *, position: int, layer: int) -> Direction:
        """Another candidate as a direction.

        Args:
            position: Counted from the end of the prompt, -1 the last.
            layer: 0-based.

        Raises:
            InputError: there is no such candidate.
            NumericalError: it is zero, as all of layer 0 are.

        Examples:
            >>> import refusalscope as rs
            >>> model = rs.load("organism:llama3-aft")
            >>> found = rs.find_direction(model, n_train=16, n_val=8)
            >>> found.candidate(position=-1, layer=2).layer
            2
        """
        n_positions, n_layers, _ = self.candidates.shape
        if not (-n_positions <= position < 0 and 0 <= layer < n_layers):
            raise InputError(
                f"position is {position}, layer is {layer}; the candidates have positions "
                f"-{n_positions} to -1 and layers 0 to {n_layers - 1}"
            )
        return Direction(
            vector=self.candidates[position, layer].float(),
            position=position,
            layer=layer,
            model=self.direction.model,
        )

    def plot(self, score: Literal["bypass", "induce", "kl"] = "bypass") -> Figure:
        """One score of all candidates by layer, a line a position (figure 11 of the paper).

        Returns:
            A figure of plotly; a notebook shows it by itself.

        Raises:
            InputError: there is no such score.

        Examples:
            >>> import refusalscope as rs
            >>> model = rs.load("organism:llama3-aft")
            >>> figure = rs.find_direction(model, n_train=16, n_val=8).plot("induce")
            >>> figure.layout.xaxis.title.text
            'layer'
        """
        chat = self.model.chat
        ids = chat.prompt_format.post_instruction
        tokens = [str(chat.tokenizer.convert_ids_to_tokens(id_)) for id_ in ids]
        return score_figure(self.selection, tuple(tokens), score=score)

    def __repr__(self) -> str:
        chosen = self.selection.chosen
        fails = "" if self.passes else f", nearest, fails {' and '.join(self.failed_limits)}"
        return f"FoundDirection(position {chosen.position}, layer {chosen.layer}{fails})"

    def _repr_html_(self) -> str:
        chosen = self.selection.chosen
        tokens = " ".join(token_label(text) for text in self.refusal_tokens.strings)
        kept = "; ".join(
            f"{row.name} {row.n_kept}/{row.n_sampled}" for row in self.extraction.counts
        )
        rejected = "; ".join(f"{n} {reason}" for reason, n in self.rejected().items())
        rows = [
            ("bypass", number(chosen.bypass, 2)),
            ("induce", number(chosen.induce, 2)),
            ("KL", number(chosen.kl)),
            ("norm", number(self.direction.norm)),
            ("refusal tokens", f"{tokens} ({self.refusal_tokens.source})"),
            ("prompts kept", kept),
            ("candidates", f"{len(self.selection.candidates)}; {rejected}"),
        ]
        title = f"The refusal direction of {self.model.source}"
        notes = (*self.extraction.warnings, *self.selection.warnings)
        return html_table(title, rows, sentences=(self.reason, *notes))
