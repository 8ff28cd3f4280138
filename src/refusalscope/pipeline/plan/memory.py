"""What each stage holds at its peak, from the shapes of its tensors.

A stage is a few moments, such as the pass and the reading of its logits; the one that holds most is
its peak. Interventions hold less than the MLP beside them, so they add nothing.
"""

from dataclasses import dataclass, replace

from refusalscope.engine.first_order import BATCH_SIZE
from refusalscope.evaluation.answer_losses import SCORED_AT_ONCE
from refusalscope.metrics.cross_entropy import NUMBERS_AT_A_TIME
from refusalscope.pipeline.label import LABEL_TOKENS
from refusalscope.pipeline.plan.measured import Measured
from refusalscope.pipeline.plan.options import PlanOptions
from refusalscope.pipeline.plan.work import n_candidates, n_conditions
from refusalscope.pipeline.project import MAX_INSTRUCTIONS, MAX_LAYERS
from refusalscope.selection.control_spread import N_DRAWS
from refusalscope.selection.score import (
    ACCELERATOR_TOKENS,
    CPU_TOKENS,
    LEAST_ESTIMATED,
    SHARE_ESTIMATED,
)

_DOUBLE = 8
_FLOAT = 4
_NLL = 3 * _DOUBLE
"""Bytes for each logit of a part whose loss is taken in float64."""
KL_SETS = 2
"""Sets of validation prompts whose KL the search scores in one pass, of any candidates: seen are 60
rows with 32 prompts, 7 with 8 (the bundled organism)."""
_MOMENTS = 9
"""Tensors of position x layer x d_model in float64 that extraction holds: sums, means, variances,
differences."""

Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Bytes that a stage holds at one moment beside the weights."""

    kept: Number = 0
    cache: Number = 0
    activations: Number = 0
    logits: Number = 0

    @property
    def total(self) -> Number:
        """All of it."""
        return self.kept + self.cache + self.activations + self.logits

    def halved(self, n: int) -> "Held":
        """With batches halved n times; what is kept stays."""
        share = 0.5**n
        return replace(
            self,
            cache=self.cache * share,
            activations=self.activations * share,
            logits=self.logits * share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The moments of the stages of a run."""

    measured: Measured
    options: PlanOptions
    max_new_tokens: int
    n_suffix: int
    on_cpu: bool

    def by_stage(self) -> dict[str, Held]:
        """The peak of each stage."""
        stages = {
            "label": self._writing(2 * (self.options.n_train + self.options.n_val), LABEL_TOKENS),
            "extract": self._extract(),
            "select": self._select(),
            "complete": self._complete(),
            "outcomes": self._outcomes(),
            "loss": self._loss(),
            "controls": self._controls(),
            "project": self._project(),
        }
        return {name: max(own, key=lambda one: one.total) for name, own in stages.items()}

    def _pass(self, tokens: Number) -> Number:
        return self.measured.by_pass * tokens

    def _logits(self, rows: Number, bytes_of_one: Number) -> Number:
        return rows * self.measured.size.d_vocab * bytes_of_one

    def _stream(self, tokens: Number) -> Number:
        """One residual stream."""
        return tokens * self.measured.size.d_model * self.measured.itemsize

    def _extract(self) -> list[Held]:
        options, size = self.options, self.measured.size
        rows = min(options.batch_size, options.n_train)
        taken = size.n_layers * self._stream(rows * options.positions)
        sums = _MOMENTS * _DOUBLE * size.n_layers * options.positions * size.d_model
        kept = taken + (sums if self.on_cpu else 0)
        cache = self.measured.cache(rows, options.longest_prompt) if self._n_behind else 0
        return [
            Held(
                kept=kept,
                cache=cache,
                activations=self._pass(rows * (options.longest_prompt - self._n_behind)),
            ),
            Held(kept=kept, logits=self._logits(rows, self.measured.reading.first)),
        ]

    def _select(self) -> list[Held]:
        options, size = self.options, self.measured.size
        base, kept = self._base(options.n_val)
        rows = options.n_val // max(1, min(SHARE_ESTIMATED, options.n_val // LEAST_ESTIMATED))
        tokens = min(BATCH_SIZE, rows) * options.longest_prompt
        gradients = Held(kept=kept, activations=self.measured.by_gradients * tokens)
        n_rows = n_candidates(options, size) * options.n_val
        n_kl = n_rows if options.all_scores else KL_SETS * options.n_val
        passes = self._edited(n_rows, n_candidates(options, size), kept, n_kl)
        return [*base, gradients, *passes]

    def _controls(self) -> list[Held]:
        options = self.options
        base, kept = self._base(options.n_test)
        n_edits = 1 + N_DRAWS
        return [*base, *self._edited(2 * n_edits * options.n_test, n_edits, kept, 0)]

    def _base(self, n_prompts: int) -> tuple[list[Held], Number]:
        """All prompts of both sets without intervention; streams of the harmless ones are kept."""
        options, size = self.options, self.measured.size
        streams = size.n_layers * self._stream(n_prompts * options.longest_prompt)
        logits = self._logits(2 * n_prompts, self.measured.itemsize)
        rows = min(self._tokens // self._own(options.longest_prompt), 2 * n_prompts)
        passing = Held(
            kept=streams,
            activations=self._pass(rows * self._own(options.longest_prompt)),
            logits=logits,
        )
        return [passing, Held(kept=streams, logits=2 * logits)], streams + logits

    def _edited(self, n_rows: int, n_edits: int, kept: Number, n_kl: int) -> list[Held]:
        """Passes over prompts under interventions, which go on from shared tokens.

        Prompts of one length share a pass: the shortest have the most rows, and so logits.

        Args:
            n_kl: Rows of a pass that are scored by KL, at the most.
        """
        options = self.options
        shared = self._shared
        n_prefixes = min(n_edits, 2 * max(1, self._tokens // shared)) if shared else 0
        prefixes = self.measured.cache(n_prefixes, shared)
        moments = []
        for width in (options.shortest_prompt, options.longest_prompt):
            own = self._own(width)
            rows = min(max(1, self._tokens // own), n_rows)
            cache = prefixes + (self.measured.cache(rows, width) if shared else 0)
            moments += [
                Held(kept=kept, cache=cache, activations=self._pass(rows * own)),
                Held(kept=kept, cache=prefixes, logits=self._read(rows, n_kl)),
            ]
        return moments

    def _read(self, rows: int, n_kl: int) -> Number:
        """Logits of a pass, and what is made of them score by score."""
        reading, whole = self.measured.reading, self._logits(rows, self.measured.itemsize)
        n_kl = min(rows, n_kl)
        by_kl = self._logits(n_kl, reading.kl - self.measured.itemsize)
        by_metric = self._logits(rows - n_kl or rows, reading.metric - self.measured.itemsize)
        return whole + max(by_kl, by_metric)

    def _complete(self) -> list[Held]:
        n_rows = 2 * self.options.n_test * n_conditions(self.n_suffix)
        return self._writing(n_rows, self.max_new_tokens)

    def _writing(self, n_rows: int, n_new: int) -> list[Held]:
        """Rows are begun together; each step joins every layer's cache with one token more."""
        rows = min(self.options.batch_size, n_rows)
        width = self.options.longest_prompt + self.n_suffix
        cache = self.measured.cache(rows, width + n_new)
        largest = max(
            (rows * one.per_token * min(width + n_new, one.window or width + n_new))
            for one in self.measured.layers
        )
        copies = self.measured.copies if self.on_cpu else 0
        return [
            Held(
                kept=copies,
                cache=self.measured.cache(rows, width),
                activations=self._pass(rows * (width - self._n_behind)),
            ),
            Held(
                kept=copies,
                cache=cache + largest,
                activations=self._pass(rows),
                logits=self._logits(rows, 2 * self.measured.itemsize),
            ),
        ]

    def _outcomes(self) -> list[Held]:
        rows = min(self.options.batch_size, max(1, SCORED_AT_ONCE // self.max_new_tokens))
        most = 2 * self.options.n_test * n_conditions(self.n_suffix)
        return self._scoring(min(rows, most), copies=1)

    def _loss(self) -> list[Held]:
        return self._scoring(min(self.options.batch_size, self.options.n_test), copies=2)

    def _scoring(self, rows: int, *, copies: int) -> list[Held]:
        """Texts whose answers' logits lie in memory together, and are read in parts."""
        n_scored = rows * self.max_new_tokens
        tokens = n_scored + rows * self.options.longest_prompt
        logits = self._logits(n_scored, copies * self.measured.itemsize)
        part = min(n_scored * self.measured.size.d_vocab, NUMBERS_AT_A_TIME)
        return [
            Held(activations=self._pass(tokens)),
            Held(activations=self._stream(tokens + n_scored), logits=logits + part * _NLL),
        ]

    def _project(self) -> list[Held]:
        options = self.options
        most = 2 * min(MAX_INSTRUCTIONS, options.n_test) * n_conditions(self.n_suffix)
        rows = min(options.batch_size, most)
        tokens = rows * (options.longest_prompt + self.max_new_tokens)
        columns = (1 + min(MAX_LAYERS, self.measured.size.n_layers)) * tokens * _DOUBLE
        doubled = self._stream(tokens) * _DOUBLE / self.measured.itemsize
        return [
            Held(
                kept=columns,
                activations=max(self._pass(tokens), 2 * self._stream(tokens) + doubled),
                logits=self._logits(rows, self.measured.itemsize),
            )
        ]

    @property
    def _tokens(self) -> int:
        return CPU_TOKENS if self.on_cpu else ACCELERATOR_TOKENS

    @property
    def _shared(self) -> int:
        """Shared tokens, at least one being left to each prompt."""
        return min(self.options.shared_tokens, self.options.shortest_prompt - 1)

    @property
    def _n_behind(self) -> int:
        """Shared tokens that readings and answers begin behind: in float32 alone."""
        return self._shared if self.measured.itemsize == _FLOAT else 0

    def _own(self, width: int) -> int:
        return max(1, width - self._shared)
