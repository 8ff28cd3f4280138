"""A run's folder, read back for a notebook; no torch is needed until its direction is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plotly.graph_objects import Figure

from refusalscope.errors import InputError, RunFolderError
from refusalscope.evaluation.judges import rates_by_condition
from refusalscope.library.given import as_path
from refusalscope.library.html import html_table
from refusalscope.library.options import record_of
from refusalscope.library.plots import score_figure
from refusalscope.library.tables import as_table, score_table
from refusalscope.report.wording import condition_name, percent, rate_in_full
from refusalscope.results.measures import measure_named
from refusalscope.results.monitor_records import MonitorFitOptions
from refusalscope.results.record import Record
from refusalscope.results.records import Completion, Judgement, Rate, Selection, Summary
from refusalscope.results.run_records import RunRecords, read_run

if TYPE_CHECKING:
    from refusalscope.library.direction import Direction
    from refusalscope.library.monitor import Monitor

RATE_COLUMNS = (
    *("measures", "judge", "dataset", "condition"),
    *("rate", "n", "low", "high"),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Run:
    """A run of `refusalscope run`, finished or not, as its folder has it; `open_run` makes one.

    Attributes:
        records: Every record of the folder, for what is not a table here.

    Examples:
        >>> import refusalscope as rs
        >>> run = rs.open_run("runs/demo")
        >>> run.model
        'organism:llama3-aft'
    """

    records: RunRecords

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.records.folder

    @property
    def model(self) -> str:
        """What `load` takes to load its model."""
        return self.records.manifest.model.source

    @property
    def summary(self) -> Summary | None:
        """The headline numbers; None of a run that is not finished."""
        return self.records.summary

    @property
    def direction(self) -> "Direction":
        """The chosen direction. Loads torch.

        Raises:
            RunFolderError: the run has found none, or has not come so far.
        """
        self._require_selection()
        from refusalscope.library.direction import Direction  # noqa: PLC0415 - all else needs no torch

        return Direction.load(self.folder)

    def measure(
        self,
        *names: str,
        options: Mapping[str, Mapping[str, object]] | None = None,
        trust_remote_code: bool = False,
    ) -> dict[str, list[Record]]:
        """Measure several things of the run; its model is loaded once.

        What was measured before, with the same options, is read. Records, summary and page are
        written to the run's folder; open the run again to see them in its tables. Loads torch.

        Args:
            names: Of measures, as `refusalscope measure --help` lists them.
            options: By measure; its defaults where none are given.
            trust_remote_code: Consent to code that comes with the run's model.

        Returns:
            The records of each measure: one, or one for each task or text.

        Raises:
            InputError: no such measure, or options that it does not take.
            RunFolderError: the run has no direction, or another process writes to its folder.

        Examples:
            >>> import refusalscope as rs
            >>> found = rs.open_run("runs/demo").measure("drift")
            >>> found["drift"][0].rows[0].dataset
            'harmful'
        """
        # Torch is loaded where something is measured.
        from refusalscope.pipeline.measure import measure  # noqa: PLC0415
        from refusalscope.pipeline.session import open_session  # noqa: PLC0415

        given = options or {}
        if odd := [name for name in given if name not in names]:
            raise InputError(f"options are given for {odd[0]!r}, which is not to be measured")
        kinds = [measure_named(name) for name in dict.fromkeys(names)]
        wanted = [(kind, kind.options_of(given.get(kind.name, {}))) for kind in kinds]
        with open_session(self.folder, trust_remote_code=trust_remote_code) as session:
            return {kind.name: measure(session, kind, own) for kind, own in wanted}

    def fit_monitor(
        self, out: str | Path, *, trust_remote_code: bool = False, **options: object
    ) -> "Monitor":
        """Fit a monitor on the run's model and write its file, as `refusalscope monitor fit` does.

        Loads torch and the model.

        Args:
            out: Safetensors file to create.
            trust_remote_code: Consent to code that comes with the run's model.
            options: Those of `refusalscope monitor fit`: kind, layer, site, token, fpr, harmful,
                harmless, borderline, hold_out, n_train, n_val, n_threshold, and the others.

        Raises:
            InputError: an option that does not exist or fit, or too few harmless instructions.
            OutputError: `out` exists.
            RunFolderError: the run has no direction, or another process writes to its folder.

        Examples:
            >>> import refusalscope as rs
            >>> run = rs.open_run("runs/demo")
            >>> run.fit_monitor("monitor.safetensors", kind="projection", fpr=0.05, n_threshold=60)
            Monitor(projection on resid of layer 6, of llama3-aft)
        """
        # Torch is loaded where a monitor is fitted.
        from refusalscope.library.monitor import Monitor  # noqa: PLC0415
        from refusalscope.pipeline.monitor import fit_monitor  # noqa: PLC0415
        from refusalscope.pipeline.session import open_session  # noqa: PLC0415

        path = as_path(out, what="out")
        own = record_of(MonitorFitOptions, options)
        with open_session(self.folder, trust_remote_code=trust_remote_code) as session:
            return Monitor(file=fit_monitor(session, own, path))

    def rates(self) -> Any:  # noqa: ANN401 - a frame where pandas is installed
        """The rates of every judge: `pandas.DataFrame`, or a list of rows without pandas.

        Columns: measures (refusal or safety), judge, dataset, condition, rate (from 0 to 1), n, low
        and high (of the 95 % Wilson interval).

        Examples:
            >>> import refusalscope as rs
            >>> table = rs.open_run("runs/demo").rates()
            >>> len(table) > 0
            True
        """
        rows = [
            {
                "measures": measures,
                "judge": judge,
                "dataset": dataset,
                "condition": condition,
                **rate.model_dump(),
            }
            for measures, judge, dataset, condition, rate in self._rates()
        ]
        return as_table(rows, columns=RATE_COLUMNS)

    def completions(self) -> Any:  # noqa: ANN401 - a frame where pandas is installed
        """Every completion: `pandas.DataFrame`, or a list of rows without pandas.

        Columns: index, dataset, condition, instruction, category, completion, n_tokens, ended (the
        model ended its turn; otherwise the token limit did).

        Examples:
            >>> import refusalscope as rs
            >>> table = rs.open_run("runs/demo").completions()
            >>> len(table) > 0
            True
        """
        rows = [row.model_dump() for row in self.records.completions]
        return as_table(rows, columns=tuple(Completion.model_fields))

    def judgements(self) -> Any:  # noqa: ANN401 - a frame where pandas is installed
        """Every judgement of every judge: `pandas.DataFrame`, or a list of rows without pandas.

        Columns: index, dataset, condition, judge, version, flag (it refused, or it is safe; missing
        where the answer says neither), raw, unparsed, score, note, measures.

        Examples:
            >>> import refusalscope as rs
            >>> table = rs.open_run("runs/demo").judgements()
            >>> len(table) > 0
            True
        """
        rows = [
            {**row.model_dump(), "measures": own.measures}
            for own in self.records.judgements
            for row in own.rows
        ]
        return as_table(rows, columns=(*Judgement.model_fields, "measures"))

    def scores(self) -> Any:  # noqa: ANN401 - a frame where pandas is installed
        """Every candidate's scores, as `FoundDirection.scores` has them.

        Raises:
            RunFolderError: the run has found no direction, or has not come so far.

        Examples:
            >>> import refusalscope as rs
            >>> table = rs.open_run("runs/demo").scores()
            >>> len(table) > 0
            True
        """
        return score_table(self._require_selection())

    def plot(self, score: Literal["bypass", "induce", "kl"] = "bypass") -> Figure:
        """One score of all candidates by layer, a line a position, as a figure of plotly.

        Raises:
            InputError: there is no such score, or no selection.

        Examples:
            >>> import refusalscope as rs
            >>> figure = rs.open_run("runs/demo").plot("kl")
            >>> figure.layout.yaxis.type
            'log'
        """
        tokens = self.records.manifest.model.post_instruction_tokens
        return score_figure(self._require_selection(), tokens, score=score)

    def _rates(self) -> list[tuple[str, str, str, str, Rate]]:
        return [
            (own.measures, own.judge, dataset, condition, rate)
            for own in self.records.judgements
            if own.rows
            for dataset, by_condition in rates_by_condition(own).items()
            for condition, rate in by_condition.items()
        ]

    def _require_selection(self) -> Selection:
        if self.records.no_direction is not None:
            raise RunFolderError(
                f"{self.folder} has no direction: {self.records.no_direction.text}"
            )
        if self.records.selection is None:
            raise RunFolderError(
                f"{self.folder} has no selection yet; continue it with its own command: "
                f"{self.records.manifest.command}"
            )
        return self.records.selection

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.model!r})"

    def _repr_html_(self) -> str:
        rows = [
            (measures, judge, dataset, condition_name(condition), rate_in_full(rate))
            for measures, judge, dataset, condition, rate in self._rates()
        ]
        header = ("measures", "judge", "data set", "condition", "rate")
        return html_table(
            f"Run of {self.model}", rows, header=header, sentences=tuple(self._sentences())
        )

    def _sentences(self) -> list[str]:
        found, lacking = self.records.direction, self.records.no_direction
        sentences = [] if self.summary else ["This run is not finished."]
        if lacking is not None:
            sentences.append(f"No direction: {lacking.text}.")
        elif found is not None:
            share = percent(found.layer / found.n_layers)
            sentences.append(
                f"Direction: position {found.position}, layer {found.layer} of {found.n_layers} "
                f"({share} of the depth)."
            )
        return [*sentences, *(self.summary.warnings if self.summary else ())]


def open_run(folder: str | Path) -> Run:
    """Read the folder of a run. No torch is loaded, and nothing of the folder is changed.

    Args:
        folder: What was given as `--out`; the run may be finished, under way, cut or imported.

    Raises:
        InputError: it is no run, or a file in it is not what its name says.

    Examples:
        >>> import refusalscope as rs
        >>> rs.open_run("runs/demo")
        Run('runs/demo', 'organism:llama3-aft')
    """
    return Run(records=read_run(as_path(folder, what="folder")))
