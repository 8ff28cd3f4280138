"""The audit of a model: one run, the measures of its refusal, audit.json, its page and exports.

Each part is kept as it comes, so that an audit that was killed and is started again ends with the
same files as one that was not. What a part took stands in timings.json.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from refusalscope.errors import AnatomyError, ModelLoadError
from refusalscope.measures.audit.exports import card_section, rungs_csv
from refusalscope.measures.audit.findings import advice, findings, scan_sentence
from refusalscope.measures.audit.options import AuditOptions
from refusalscope.measures.audit.page import AuditPage, render_audit
from refusalscope.measures.decoys.record import Decoys, missed
from refusalscope.measures.dose.record import Dose
from refusalscope.measures.ladder.page import area_of, in_order, rung_name
from refusalscope.measures.ladder.record import LadderOptions, Rung, rungs_of
from refusalscope.measures.over_refusal.record import OverRefusal
from refusalscope.measures.recognition.record import Recognition, RecognitionOptions
from refusalscope.pipeline import weights
from refusalscope.pipeline.answer_lengths import answer_tokens
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import has_no_direction
from refusalscope.report.scan_section import scan_section
from refusalscope.results.audit_records import (
    AUDIT,
    AUDIT_CARD,
    AUDIT_CSV,
    AUDIT_PAGE,
    Audit,
    AuditCost,
    AuditModel,
    AuditRung,
)
from refusalscope.results.files import write_file
from refusalscope.results.measures import measure_named, measures
from refusalscope.results.record import Record
from refusalscope.results.records import RunManifest, Summary
from refusalscope.results.run_records import RUN, SUMMARY, read_if_there, read_record
from refusalscope.results.scan_records import ScanRecord
from refusalscope.results.versions import package_versions

R = TypeVar("R", bound=Record)
NEVER_TESTED = {
    "other attacks": "jailbreaks in words, in other languages, over several turns, by an attacking "
    "model or through tools were not tried",
    "other instructions": "rates are of the instructions that were asked, and of no others",
    "harm of the answers": "complied says that an answer is neither a refusal nor nonsense, not "
    "that it is of use to anybody",
}
"""What no audit here says anything about."""
LEFT_OUT = "left out by --quick"


def audit(session: Session, options: AuditOptions) -> Audit:
    """Measure what an audit needs of a finished run, and write its record and page.

    What was measured before is not measured again.

    Raises:
        RunFolderError: not a run.
        OutputError: something was measured with other options.
        RefusalscopeError: whatever a measure raises.
    """
    folder = session.folder
    not_tested = dict(NEVER_TESTED)
    over = _first(_measured(session, "over-refusal", options.over_refusal(), OverRefusal))
    rungs = in_order(_measured(session, "ladder", options.ladder(), Rung))
    dose = decoys = knows = None
    if has_no_direction(session.any_run):
        why = "the run found no direction"
        not_tested |= {"dose": why, "decoy check": why, "recognition of harm": why}
    else:
        dose = _first(_measured(session, "dose", options.dose(), Dose))
        decoys = _first(_measured(session, "decoys", options.decoys(), Decoys))
        knows = _first(_measured(session, "recognition", RecognitionOptions(), Recognition))
    not_tested |= {rung_name(r.name): r.lacking for r in rungs if r.lacking is not None}
    if decoys is not None:
        not_tested |= {f"rival {r.name}": r.lacking for r in decoys.rivals if r.lacking is not None}
        if "cosmic" not in {rival.name for rival in decoys.rivals}:
            not_tested["rival cosmic"] = LEFT_OUT
    tried = {rung.name for rung in rungs}
    not_tested |= {
        rung_name(one): LEFT_OUT for one in rungs_of(LadderOptions()) if one not in tried
    }
    if over is not None and over.lacking is not None:
        not_tested["borderline instructions"] = over.lacking
    scan = _scanned(session, options, not_tested)
    manifest = read_record(RunManifest, folder / RUN)
    record = Audit(
        model=AuditModel(
            name=manifest.model.name,
            source=manifest.model.source,
            weights_sha256=manifest.model.weights_sha256,
            architecture=manifest.model.architecture,
        ),
        setting=_setting(session.any_run, manifest),
        findings=(*findings(rungs, over, dose, decoys, knows), *scan_sentence(scan)),
        advice=advice(rungs, over, decoys, scan),
        rungs=tuple(_rung(rung) for rung in rungs),
        rank_area=area_of(rungs),
        over_refusal=None
        if over is None
        else {row.dataset: row.refused for row in over.rows if row.category is None},
        dose=None if dose is None else {f"{p.strength:g}": p.refused for p in dose.points},
        decoys=None if decoys is None else tuple(one.name for one in missed(decoys)),
        monitors=None if knows is None else _monitors(knows),
        scan=None if scan is None else _scan_in_short(scan),
        not_tested=not_tested,
        versions=package_versions(),
    )
    write_file(folder / AUDIT, record.to_json())
    write_file(folder / AUDIT_CSV, rungs_csv(record))
    write_file(folder / AUDIT_CARD, card_section(record))
    write_audit_page(folder, record, scan)
    return record


def write_audit_page(folder: Path, record: Audit, scan: ScanRecord | None) -> None:
    """Write audit.html from the record and from what the measures left in the run's folder."""
    shown = ("over-refusal", "ladder", "dose", "decoys", "recognition")
    sections = {}
    for kind in measures():
        if kind.name not in shown or kind.section is None:
            continue
        own = [read_record(kind.record, path) for path in kind.files(folder)]
        section = kind.section(own) if own else None
        if section is not None:
            sections[kind.name] = section
    parts = [sections[name] for name in shown if name in sections]
    if scan is not None:
        parts.append(scan_section(scan))
    page = AuditPage(record=record, sections=tuple(parts))
    write_file(folder / AUDIT_PAGE, render_audit(page))


def _setting(run: RunContext, manifest: RunManifest) -> tuple[str, ...]:
    """What was asked, how it was answered, and who said what is a refusal."""
    asked = [
        f"{row.n_sampled} {row.name} test instructions of {row.source}"
        for row in manifest.inputs
        if row.name in ("harmful", "harmless")
    ]
    summary = read_if_there(Summary, run.folder.path / SUMMARY)
    judge = None if summary is None else summary.refusal_judge
    limit = answer_tokens(run.options, run.organism)
    return (
        *asked,
        f"greedy answers of at most {limit} tokens",
        f"refused is what judge {judge} says" if judge else "no judge of refusals",
        f"refusalscope {package_versions()['refusalscope']}",
    )


def _scanned(
    session: Session, options: AuditOptions, not_tested: dict[str, str]
) -> ScanRecord | None:
    """What the weights alone say; None, with the reason, where they cannot be scanned."""
    own = options.run
    try:
        source = weights.model_folder(
            own.model, revision=own.revision, trust_remote_code=own.trust_remote_code
        )
        base = None if options.base is None else weights.model_folder(options.base)
        return weights.scan(source, base=base, progress=session.progress)
    except (AnatomyError, ModelLoadError) as error:
        if options.base is not None:
            raise
        not_tested["scan of the weights"] = str(error)
        return None


def _scan_in_short(scan: ScanRecord) -> dict[str, object]:
    """The verdict of a scan and what it rests on, without its layers."""
    return scan.model_dump(mode="json", exclude={"layers", "base", "checkpoint", "thresholds"})


def _measured(session: Session, name: str, options: Record, kind: type[R]) -> list[R]:
    started = time.monotonic()
    found = measure(session, measure_named(name), options)
    session.any_run.folder.add_time(f"audit {name}", seconds=time.monotonic() - started)
    return [record for record in found if isinstance(record, kind)]


def _first(records: Sequence[R]) -> R | None:
    return records[0] if records else None


def _monitors(knows: Recognition) -> dict[str, object]:
    """Harm read from activations, by where and in which state of the model."""
    return {
        f"{one.place}, {one.state}, probe fitted {one.fitted}": {
            "layer": one.layer,
            **one.separation.model_dump(mode="json"),
        }
        for one in knows.readings
    }


def _rung(rung: Rung) -> AuditRung:
    shares, refused, cost = rung.shares, rung.refused, rung.cost
    return AuditRung(
        name=rung.name,
        refused=None if shares is None else shares.refused,
        complied=None if shares is None else shares.complied,
        degenerate=None if shares is None else shares.degenerate,
        n=0 if shares is None else shares.n,
        low=None if refused is None else refused.low,
        high=None if refused is None else refused.high,
        gap=rung.gap,
        cost=None
        if cost is None
        else AuditCost(
            prompts=cost.prompts, forward_passes=cost.forward, backward_passes=cost.backward
        ),
        detail=rung.detail,
        not_tried=rung.lacking,
    )
