"""How a finished run's model refuses: the parts of the mechanism, each a record of its own.

`refusalscope mechanism RUN` continues a run folder. A part that is done is skipped; the suffix
search goes on from its last step.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from refusalscope.errors import RunFolderError
from refusalscope.pipeline.journaled_search import remove_search_journals
from refusalscope.pipeline.mechanism_base import base_digest, do_base, require_base
from refusalscope.pipeline.mechanism_beside import beside_digest, do_beside, require_beside
from refusalscope.pipeline.mechanism_options import PART_FIELDS, MechanismOptions
from refusalscope.pipeline.mechanism_parts import (
    do_geometry,
    do_tokens,
    do_trajectories,
    do_where,
)
from refusalscope.pipeline.mechanism_search import do_search
from refusalscope.pipeline.mechanism_study import Study, start_study
from refusalscope.pipeline.mechanism_suffixes import do_heads, do_projections, do_suffixes
from refusalscope.pipeline.reopen import own_options
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.pipeline.session import Session
from refusalscope.report.page import write_report
from refusalscope.results.files import write_file
from refusalscope.results.flags import offered
from refusalscope.results.mechanism_folder import MECHANISM, MechanismRecords, read_mechanism
from refusalscope.results.run_records import read_record, read_run

_LOG = logging.getLogger(__name__)
_NEEDED = "report"
_OPTIONS = f"{MECHANISM}/options.json"
_MAY_COME_LATER = ("base", "beside", "texts")
"""Options whose parts are added to a mechanism that was made without them."""
_PARTS: dict[str, Callable[[Study], None]] = {
    "suffixes": do_suffixes,
    "heads": do_heads,
    "tokens": do_tokens,
    "trajectories": do_trajectories,
    "base": do_base,
    "where": do_where,
    "projections": do_projections,
    "geometry": do_geometry,
    "beside": do_beside,
}


def mechanism(session: Session, options: MechanismOptions) -> MechanismRecords:
    """Do every part of the mechanism of a finished run, and write its page anew.

    Parts that are done are skipped, so a mechanism that was killed and started again ends with the
    same files as an uninterrupted one.

    Raises:
        RunFolderError: no run, one that is not finished, or one whose mechanism was made with
            other options.
        InputError: a prompt with the suffix does not fit into the model's context.
        RefusalscopeError: any other of its kinds.
    """
    folder = session.folder
    own_options(folder, trust_remote_code=session.trust_remote_code)
    if _NEEDED not in read_run(folder).manifest.stages:
        raise RunFolderError(
            f"the run in {folder} is not finished; finish it with: refusalscope report {folder}"
        )
    wanted = _together(folder, options)
    # A base that only the folder names is loaded, but no code of it is run.
    trusts_base = session.trust_remote_code and options.base is not None
    if wanted.base is not None:
        require_base(wanted.base, trust_remote_code=trusts_base)
    study = start_study(session.run, wanted, trusts_base=trusts_base)
    study.require_room()
    session.run.chat.encode(list(wanted.texts))
    for source in wanted.beside:
        require_beside(source, d_model=study.run.chat.d_model)
    write_file(folder / _OPTIONS, wanted.to_json())
    for part in PART_FIELDS:
        _do_part(part, study)
    remove_search_journals(folder / MECHANISM)
    write_report(folder)
    return read_mechanism(folder)


def _do_part(part: str, study: Study) -> None:
    if part in _not_asked(study):
        return
    run, stage = study.run, f"{MECHANISM} {part}"
    key = _key(part, study)
    if run.folder.is_done(stage, key):
        _LOG.info("%s is done already", stage)
        return
    started = time.monotonic()
    if part == "search":
        do_search(study, key)
    else:
        _PARTS[part](study)
    run.folder.finish(stage, key, seconds=time.monotonic() - started)


def _not_asked(study: Study) -> set[str]:
    asked = {
        "search": study.given is None,
        "base": study.base is not None,
        "beside": bool(study.options.beside),
    }
    return {part for part, is_asked in asked.items() if not is_asked}


def _key(part: str, study: Study) -> str:
    """Digest of all that a part's record depends on: the run and the options of that part."""
    stages = study.run.folder.manifest().stages
    asked = {name: getattr(study.options, name) for name in PART_FIELDS[part]}
    if "base" in asked and study.base is not None:
        asked["base"] = base_digest(study.base)
    if "suffix" in asked and study.given is not None:
        asked["suffix"] = study.given.text
    if "beside" in asked:
        asked["beside"] = [beside_digest(source) for source in study.options.beside]
    return stage_key(f"{MECHANISM} {part}", stages[_NEEDED], asked)


def _together(folder: Path, options: MechanismOptions) -> MechanismOptions:
    """The options of a mechanism that is continued, with what is new.

    Raises:
        RunFolderError: an option is another than it was.
    """
    path = folder / _OPTIONS
    if not path.is_file():
        return options
    before, now = read_record(MechanismOptions, path).model_dump(), options.model_dump()
    for name, value in before.items():
        if name in _MAY_COME_LATER and not now[name]:
            now[name] = value
        if now[name] != value and not (name in _MAY_COME_LATER and not value):
            flag = next(one for one in offered(MechanismOptions) if one.path == (name,)).spelling
            raise RunFolderError(
                f"the mechanism of {folder} was made with {flag} {value}, not {now[name]}; give "
                f"the same options, or delete {path.parent} to make it anew"
            )
    return MechanismOptions.model_validate(now)
