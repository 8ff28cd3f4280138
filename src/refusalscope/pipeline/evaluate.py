"""Judging a finished run by rules and models."""

from contextlib import nullcontext
from pathlib import Path

from refusalscope.errors import InputError, OutputError, RunFolderError
from refusalscope.evaluation.answers import AnswerCache, Answerer
from refusalscope.evaluation.flag_completions import flag_completions
from refusalscope.evaluation.installed_judges import judge_kind, model_judges, rule_judges
from refusalscope.evaluation.judge_kinds import JudgeKind
from refusalscope.evaluation.judge_names import judge_names
from refusalscope.evaluation.judges import Judge, judge_all, judgement_name
from refusalscope.evaluation.local_answerer import LocalAnswerer
from refusalscope.evaluation.model_judge import ModelJudge
from refusalscope.evaluation.server_address import server_address
from refusalscope.evaluation.server_answerer import ServerAnswerer, ServerOptions
from refusalscope.evaluation.stress import stress
from refusalscope.models.load_options import LoadOptions
from refusalscope.pipeline.context import Progress
from refusalscope.pipeline.evaluation_options import JudgeOptions, StressOptions
from refusalscope.pipeline.folder_lock import one_of_several_writers
from refusalscope.pipeline.refresh import refresh_summary
from refusalscope.pipeline.session import Session
from refusalscope.results.deciding_judge import DECIDING_JUDGES
from refusalscope.results.files import write_file
from refusalscope.results.given_files import given_text
from refusalscope.results.records import Completion, Judgements
from refusalscope.results.run_records import (
    COHERENCE_FLAGS,
    EVALUATION,
    RunRecords,
    judgements_file,
    read_record,
    read_run,
    stress_file,
)
from refusalscope.results.stress_records import JudgeStress

ANSWERS = "evaluation/answers"


def judge_run(session: Session, options: JudgeOptions) -> list[Judgements]:
    """Judge every completion of a run by each judge named, and write evaluation/JUDGE.json.

    A judge whose file is there is not asked again. A cut judge is continued: its answers are
    kept one by one. Summary and report of a finished run are written anew.

    Raises:
        RunFolderError: not a run, or one without completions.
        InputError: no such judge, a model is missing, or a server gave no answer.
        OutputError: a judge's file is there already, by another model or with other settings.
    """
    folder = session.folder
    run = read_run(folder)
    completions = _completions(run, options)
    require_judges(options)
    done: list[Judgements] = []
    shared = nullcontext() if options.cache is None else one_of_several_writers(Path(options.cache))
    with shared:
        for name in options.judges:
            judge = make_judge(folder, name, options, key=session.server_key)
            done += _judge(folder, judge, completions, session.progress)
    if run.flags is None:
        write_file(folder / COHERENCE_FLAGS, flag_completions(run.completions).to_json())
    if run.summary is not None:
        refresh_summary(folder)
    return done


def _judge(
    folder: Path, judge: Judge, completions: list[Completion], progress: Progress
) -> list[Judgements]:
    """The judge's files, written where they are not there."""
    found = _existing(folder, judge, completions)
    if found is None:
        with progress.stage(judge.name, len(completions), unit="completions") as advance:
            found = judge_all(judge, completions, progress=advance)
        for record in found:
            write_file(folder / EVALUATION / judgements_file(record.judge), record.to_json())
    return found


def _completions(run: RunRecords, options: JudgeOptions) -> list[Completion]:
    if not run.completions:
        raise RunFolderError(
            f"{run.folder} has no completions; write them with: refusalscope complete {run.folder}"
        )
    _require_completed(run)
    names = sorted({one.dataset for one in run.completions})
    unknown = [name for name in options.datasets if name not in names]
    if unknown:
        raise InputError(
            f"the run has no data set {unknown[0]!r}; expected one of {', '.join(names)}"
        )
    return [one for one in run.completions if one.dataset in (options.datasets or names)]


def _require_completed(run: RunRecords) -> None:
    """Refuse to judge a part of what the run completes, or was judged on before.

    Raises:
        RunFolderError: its completions are not all written, or some are gone.
    """
    manifest, again = run.manifest, f"write them with: refusalscope complete {run.folder}"
    if manifest.inputs and manifest.imported_from is None and "complete" not in manifest.stages:
        raise RunFolderError(f"the completions of {run.folder} are not all written; {again}")
    there = {(one.dataset, one.condition) for one in run.completions}
    for judged in run.judgements:
        for row in judged.rows:
            if (row.dataset, row.condition) not in there:
                raise RunFolderError(
                    f"{run.folder} lacks the completions of {row.dataset}, {row.condition}, which "
                    f"{judged.judge} has judged; {again}"
                )


def stress_judges(session: Session, given: StressOptions) -> list[JudgeStress]:
    """Try judges on known answers, and write evaluation/stress/JUDGE.json for the run's page.

    Raises:
        RunFolderError: not a run.
        InputError: no such judge, or one that does not judge refusal.
    """
    folder = session.folder
    run = read_run(folder)
    options = JudgeOptions(**given.model_dump())
    require_judges(options)
    found = []
    for name in options.judges:
        judge = make_judge(folder, name, options, key=session.server_key)
        record = stress(judge)
        write_file(folder / stress_file(name), record.to_json())
        found.append(record)
    if run.summary is not None:
        refresh_summary(folder)
    return found


def require_judges(options: JudgeOptions) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: no such judge, or an option that belongs to another number or kind of judges.
    """
    for name in options.judges:
        if name not in judge_names():
            raise _no_judge(name)
    one_only = {"--model": options.model, "--label": options.label}
    given = [flag for flag, value in one_only.items() if value is not None]
    if given and len(options.judges) != 1:
        raise InputError(f"{given[0]} belongs to one judge; give one --judge with it")
    if options.label is not None:
        _require_own_label(options.label, options.judges[0])
    if options.model is not None and options.judges[0] in rule_judges():
        raise InputError(f"judge {options.judges[0]} is a rule; leave --model away")
    if options.server is not None:
        server_address(options.server)
    if options.chat and options.server is None:
        raise InputError("--chat is about a server; give its address with --server")
    takers = [name for name, kind in model_judges().items() if kind.by_rubric]
    if options.rubric is not None and not set(takers) & set(options.judges):
        raise InputError(
            f"--rubric belongs to the judges {' and '.join(takers)}; name one with --judge"
        )
    if options.short_is_safe and "llama_guard_2" not in options.judges:
        raise InputError(
            "the rule that short answers are safe belongs to llama_guard_2; name it with --judge"
        )


def _require_own_label(label: str, judge: str) -> None:
    """Refuse a label under which a judge's files would be another's, or another record's.

    Raises:
        InputError: they would.
    """
    kinds = model_judges()
    if judge not in kinds:
        raise InputError(f"judge {judge} is a rule and has one name; leave --label away")
    endings = [""] if len(kinds[judge].measures) == 1 else [f"_{m}" for m in kinds[judge].measures]
    others = {
        *DECIDING_JUDGES,
        *(name for name in judge_names() if name != judge),
        *(
            f"{kind.name}_{measure}"
            for kind in kinds.values()
            if kind.name != judge and len(kind.measures) > 1
            for measure in kind.measures
        ),
    } - {judge}
    for name in (label + ending for ending in endings):
        judgements_file(name)
        if name.casefold() in {other.casefold() for other in others}:
            raise InputError(
                f"--label {label!r} is the name of another judge; give one that is free"
            )


def make_judge(folder: Path, name: str, options: JudgeOptions, *, key: str | None = None) -> Judge:
    """One of the judges by name, with its answers kept in the run's folder or the cache.

    Raises:
        InputError: no such judge, or its model is not given.
        OutputError: the run's folder of answers is a link.
    """
    if name in rule_judges():
        return rule_judges()[name]()
    rubric = None
    if name not in judge_names():
        raise _no_judge(name)
    known = model_judges().get(name)
    if options.rubric is not None and known is not None and known.by_rubric:
        rubric = given_text(Path(options.rubric))
    kind = judge_kind(name, rubric=rubric)
    return ModelJudge(
        kind,
        _answerer(kind, options, key),
        cache=AnswerCache(folder=_answers_folder(folder, options)),
        label=options.label,
        short_is_safe=options.short_is_safe and name == "llama_guard_2",
    )


def _answers_folder(folder: Path, options: JudgeOptions) -> Path:
    """Where answers are kept; a run's own folder of them is no link to somewhere else.

    Raises:
        OutputError: it is.
    """
    if options.cache:
        return Path(options.cache)
    own = folder / ANSWERS
    if own.is_symlink():
        raise OutputError(
            f"{own} is a link to another folder; no answer is written through it: remove it, or "
            f"give the folder that is meant with --cache"
        )
    return own


def _no_judge(name: str) -> InputError:
    return InputError(f"no judge is called {name!r}; expected one of {', '.join(judge_names())}")


def _answerer(kind: JudgeKind, options: JudgeOptions, key: str | None) -> Answerer:
    model = options.model or kind.model
    if model is None:
        raise InputError(
            f"judge {kind.name} is any chat model; say which with --model (and --server, if it is "
            f"not a folder or a hub id)"
        )
    if options.server is not None:
        server_address(options.server)
        return ServerAnswerer(
            kind,
            ServerOptions(
                url=options.server,
                model=model,
                key=key,
                chat=options.chat,
                concurrency=options.concurrency,
                retries=options.retries,
                timeout=options.timeout,
            ),
        )
    load = LoadOptions(
        revision=options.revision,
        dtype=options.dtype,
        device=options.device,
        trust_remote_code=options.trust_remote_code,
    )
    return LocalAnswerer(kind, model, options=load, batch_size=options.batch_size)


def _existing(folder: Path, judge: Judge, completions: list[Completion]) -> list[Judgements] | None:
    """The judge's files, where they say what it would say; None where there are none.

    A file that covers other completions or comes from another judge is not overwritten.
    """
    paths = [
        folder / EVALUATION / judgements_file(judgement_name(judge, measure))
        for measure in judge.measures
    ]
    present = [path for path in paths if path.is_file()]
    wanted = [(one.dataset, one.condition, one.index) for one in completions]
    for path in present:
        found = read_record(Judgements, path)
        differs = [
            what
            for what, ours, theirs in (
                ("version", judge.version, found.version),
                ("model", judge.model, found.model),
                ("settings", dict(judge.settings), found.settings),
                (
                    "completions",
                    wanted,
                    [(row.dataset, row.condition, row.index) for row in found.rows],
                ),
            )
            if ours != theirs
        ]
        if differs:
            raise OutputError(
                f"{path} holds judgements with other {' and '.join(differs)}; keep both with "
                f"--label NAME"
            )
    return [read_record(Judgements, path) for path in paths] if len(present) == len(paths) else None
