"""A monitor, and a model that is guarded by one."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from refusalscope.directions import direction as files
from refusalscope.interventions.apply import row_edits
from refusalscope.interventions.intervention import Intervention
from refusalscope.library.direction import addition
from refusalscope.library.given import Asked, as_instructions, as_path
from refusalscope.library.html import html_table
from refusalscope.library.model import Model, answers_under, require_model
from refusalscope.library.options import options_of
from refusalscope.models.threads import suited_threads
from refusalscope.monitors import monitor as monitor_files
from refusalscope.monitors.score import require_same_shape, score_prompts
from refusalscope.report.wording import number


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Monitor:
    """A probe that reads a prompt's activations at one layer and fires on harmful instructions.

    `Run.fit_monitor` fits one, as `refusalscope monitor fit` does. It belongs to the model that it
    was fitted on, with its template; what it is worth on other instructions is measured by
    `refusalscope monitor evaluate`.

    Attributes:
        file: What its file holds: weights, layer, site, threshold, and on what it was fitted.

    Examples:
        >>> import refusalscope as rs
        >>> run = rs.open_run("runs/demo")
        >>> monitor = run.fit_monitor("m.safetensors", kind="projection", fpr=0.05, n_threshold=60)
        >>> monitor.file.facts.kind
        'projection'
    """

    file: monitor_files.Monitor

    @classmethod
    def load(cls, path: str | Path) -> "Monitor":
        """Read a monitor's file.

        Raises:
            InputError: it is no monitor's file, or was damaged or changed by hand.

        Examples:
            >>> import refusalscope as rs
            >>> options = {"kind": "projection", "fpr": 0.05, "n_threshold": 60}
            >>> _ = rs.open_run("runs/demo").fit_monitor("read.safetensors", **options)
            >>> rs.Monitor.load("read.safetensors")
            Monitor(projection on resid of layer 6, of llama3-aft)
        """
        return cls(file=monitor_files.load_monitor(as_path(path, what="path")))

    @property
    def threshold(self) -> float:
        """The score above which it fires."""
        return self.file.facts.threshold

    def scores(self, model: Model, instructions: Asked, *, batch_size: int = 64) -> list[float]:
        """The score of each instruction; higher is more harmful. One pass, nothing is written.

        Args:
            model: What it was fitted on; interventions that are open on it act.
            instructions: One or several, each in the model's chat template.

        Raises:
            InputError: the monitor is of another model, or no instruction is given.
            NumericalError: an activation is NaN or infinite.

        Examples:
            >>> import refusalscope as rs
            >>> run, model = rs.open_run("runs/demo"), rs.load("organism:llama3-aft")
            >>> options = {"kind": "projection", "fpr": 0.05, "n_threshold": 60}
            >>> monitor = run.fit_monitor("scores.safetensors", **options)
            >>> len(monitor.scores(model, ["what is a wesket?", "how might i get a boplin?"]))
            2
        """
        return self._scores(model, instructions, batch_size).tolist()

    def fires(self, model: Model, instructions: Asked, *, batch_size: int = 64) -> list[bool]:
        """Whether each instruction's score is above the threshold; as `scores`.

        Examples:
            >>> import refusalscope as rs
            >>> run, model = rs.open_run("runs/demo"), rs.load("organism:llama3-aft")
            >>> options = {"kind": "projection", "fpr": 0.05, "n_threshold": 60}
            >>> monitor = run.fit_monitor("fires.safetensors", **options)
            >>> len(monitor.fires(model, "what is a wesket?"))
            1
        """
        return self.file.flags(self._scores(model, instructions, batch_size))

    def guarded(
        self,
        model: Model,
        direction: files.Direction,
        *,
        coefficient: float = 1.0,
        layer: int | None = None,
    ) -> "GuardedModel":
        """The model with the direction added where the monitor fires, and only there.

        The monitor reads each prompt first; where it fires, $c r$ is added at the direction's layer
        at every token, which makes a model refuse; everything else is answered as without it. That
        a condition decides whether to steer is CAST's idea: Lee et al. (2024),
        https://arxiv.org/abs/2409.05907.

        Args:
            coefficient: $c$, in lengths of the direction.
            layer: Where it is added; the direction's own if None.

        Raises:
            InputError: monitor or direction are of another model, no layer is known, or the
                coefficient is no finite number.

        Examples:
            >>> import refusalscope as rs
            >>> run, model = rs.open_run("runs/demo"), rs.load("organism:llama3-aft")
            >>> options = {"kind": "projection", "fpr": 0.05, "n_threshold": 60}
            >>> monitor = run.fit_monitor("guard.safetensors", **options)
            >>> monitor.guarded(model, run.direction)
            GuardedModel('organism:llama3-aft', 1 direction length at layer 6)
        """
        chat = require_model(model).chat
        require_same_shape(chat, self.file)
        edit = addition(direction, coefficient=coefficient, layer=layer)
        row_edits(chat.anatomy, [edit])  # refuses a direction of another model
        return GuardedModel(model=model, monitor=self, edit=edit, coefficient=coefficient)

    def _scores(
        self, model: Model, instructions: Asked, batch_size: int
    ) -> Float[Tensor, " prompt"]:
        chat = require_model(model).chat
        asked = as_instructions(instructions)
        own = options_of(batch_size=batch_size)
        prompts = chat.encode([one.text for one in asked])
        with suited_threads(chat):
            return score_prompts(chat, prompts, self.file, batch_size=own.batch_size)

    def __repr__(self) -> str:
        facts = self.file.facts
        return f"Monitor({facts.kind} on {facts.site} of layer {facts.layer}, of {facts.model})"

    def _repr_html_(self) -> str:
        facts = self.file.facts
        rows = [
            ("kind", facts.kind),
            ("reads", f"{facts.site} of layer {facts.layer}"),
            ("model", facts.model),
            ("threshold", number(facts.threshold)),
            ("set at", f"{facts.fpr:.2%} of {facts.n_threshold} harmless prompts"),
        ]
        return html_table("Monitor", rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedAnswer:
    """What a guarded model answers to one instruction.

    Attributes:
        text: The answer, without the token that ends the turn.
        score: Of the monitor.
        is_flagged: Whether it fired, so that the direction was added.

    Examples:
        >>> import refusalscope as rs
        >>> rs.GuardedAnswer(text="I cannot help you.", score=3.5, is_flagged=True).is_flagged
        True
    """

    text: str
    score: float
    is_flagged: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class GuardedModel:
    """A model with a direction added where a monitor fires; `Monitor.guarded` makes one.

    Attributes:
        edit: The addition where it fires.
        coefficient: Lengths of the direction that are added.

    Examples:
        >>> import refusalscope as rs
        >>> run, model = rs.open_run("runs/demo"), rs.load("organism:llama3-aft")
        >>> options = {"kind": "projection", "fpr": 0.05, "n_threshold": 60}
        >>> monitor = run.fit_monitor("guarded.safetensors", **options)
        >>> guarded = monitor.guarded(model, run.direction)
        >>> [answer] = guarded.answer("what is a wesket?", max_new_tokens=4)
        >>> answer.is_flagged or answer.text in model.answer("what is a wesket?", max_new_tokens=4)
        True
    """

    model: Model
    monitor: Monitor
    edit: Intervention
    coefficient: float

    def answer(
        self, instructions: Asked, *, max_new_tokens: int | None = None, batch_size: int = 64
    ) -> list[GuardedAnswer]:
        """What the guarded model answers, greedily; as `Model.answer`.

        Interventions that are open on the model act on what the monitor reads, too.

        Raises:
            InputError: as `Model.answer`.
            NumericalError: an activation is NaN or infinite.

        Examples:
            >>> import refusalscope as rs
            >>> run, model = rs.open_run("runs/demo"), rs.load("organism:llama3-aft")
            >>> options = {"kind": "projection", "fpr": 0.05, "n_threshold": 60}
            >>> monitor = run.fit_monitor("answers.safetensors", **options)
            >>> guarded = monitor.guarded(model, run.direction)
            >>> len(guarded.answer(["what is a wesket?", "how might i get a boplin?"]))
            2
        """
        asked = as_instructions(instructions)
        own = options_of(max_new_tokens=max_new_tokens, batch_size=batch_size)
        scores = self.monitor.scores(self.model, asked, batch_size=own.batch_size)
        flags = [score > self.monitor.threshold for score in scores]
        texts = answers_under(self.model, asked, own, [self.edit if f else None for f in flags])
        return [
            GuardedAnswer(text=text, score=score, is_flagged=flag)
            for text, score, flag in zip(texts, scores, flags, strict=True)
        ]

    def __repr__(self) -> str:
        lengths = "length" if self.coefficient == 1 else "lengths"
        where = f"{self.coefficient:g} direction {lengths} at layer {self.edit.layer}"
        return f"GuardedModel({self.model.source!r}, {where})"
