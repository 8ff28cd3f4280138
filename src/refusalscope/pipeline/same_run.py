"""Whether a folder's run is the one that is asked for: what it was made of is what is here now.

Options, instructions, weights and settings are compared before anything of the model is loaded;
a run folder may come from somebody else, and loading can run the code that a model brings.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from refusalscope.errors import RunFolderError
from refusalscope.models.chat_model import model_digest, model_settings_digest
from refusalscope.pipeline.instructions import InstructionSets
from refusalscope.pipeline.options import CHANGEABLE, RunOptions
from refusalscope.results.record import canonical_json
from refusalscope.results.records import InstructionCounts, RunManifest
from refusalscope.results.run_records import RUN
from refusalscope.results.versions import package_versions

_LOG = logging.getLogger(__name__)
_RELEASE = re.compile(r"(\d+)(?:\.(\d+))?")
_VERSION = "version of "

Facts = Mapping[str, object]
"""What a run depends on, by the words that an error calls it."""


def facts_before_loading(
    *,
    options: Mapping[str, object],
    versions: Mapping[str, str],
    inputs: tuple[InstructionCounts, ...],
    weights_sha256: str | None,
    settings_sha256: str | None,
) -> dict[str, object]:
    """What can be compared while the model is but files."""
    return {
        **{f"option {key}": value for key, value in options.items() if key not in CHANGEABLE},
        "model weights": weights_sha256,
        "config or tokenizer": settings_sha256,
        **{f"{_VERSION}{name}": version for name, version in versions.items()},
        **{f"instructions {row.name}": row.sha256 for row in inputs},
    }


def all_facts(manifest: RunManifest) -> dict[str, object]:
    """What can be compared once the model is loaded."""
    model = manifest.model
    return {
        **facts_before_loading(
            options=manifest.options,
            versions=manifest.versions,
            inputs=manifest.inputs,
            weights_sha256=model.weights_sha256,
            settings_sha256=model.settings_sha256,
        ),
        "chat template": model.template_sha256,
        "type of its numbers": model.dtype,
    }


def require_same_files(
    out: Path, existing: RunManifest, options: RunOptions, sets: InstructionSets, *, source: str
) -> None:
    """Compare a run that is continued with what it is asked to be, before its model is loaded."""
    kept = RunOptions.from_json(canonical_json(existing.options), source=str(out / RUN))
    theirs, ours = (
        facts_before_loading(
            options=row.model_dump(mode="json"),
            versions=versions,
            inputs=inputs,
            weights_sha256=weights,
            settings_sha256=settings,
        )
        for row, versions, inputs, weights, settings in (
            (
                kept,
                existing.versions,
                existing.inputs,
                existing.model.weights_sha256,
                existing.model.settings_sha256,
            ),
            (
                options,
                package_versions(),
                tuple(each.counts() for each in sets.values()),
                model_digest(source, options.revision),
                model_settings_digest(source, options.revision),
            ),
        )
    )
    require_same_run(out, theirs=theirs, ours=ours)


def require_same_run(path: Path, *, theirs: Facts, ours: Facts) -> None:
    """Refuse to continue a run that was made of something else.

    A package of which only the patch release or the build differs is no other run; it is said.

    Raises:
        RunFolderError: names the first difference.
    """
    for name in {**ours, **theirs}:
        before, now = theirs.get(name), ours.get(name)
        if before == now:
            continue
        if name.startswith(_VERSION) and _is_same_release(before, now):
            package = name.removeprefix(_VERSION)
            _LOG.warning("%s was made with %s %s; it goes on with %s", path, package, before, now)
            continue
        raise RunFolderError(
            f"{path} holds another run ({name} was {before!r}, now {now!r}); give another --out, "
            f"or the same options to continue it"
        )


def _is_same_release(before: object, now: object) -> bool:
    """Whether two versions have one major and one minor number."""
    found = [_RELEASE.match(str(version)) for version in (before, now)]
    releases = [None if one is None else (int(one[1]), int(one[2] or 0)) for one in found]
    return releases[0] is not None and releases[0] == releases[1]
