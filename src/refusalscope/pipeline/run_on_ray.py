"""Several models side by side, a Ray task each: `run-all --ray`. The only module that imports Ray.

What a run is does not change: a task runs one model into its folder, and whoever dies, worker or
driver, leaves a folder that the next one goes on with. A model that fails is a row that says why.
"""

import logging
import os
import re
import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusalscope.errors import EngineError, InputError, MissingExtraError
from refusalscope.pipeline.context import Progress, Silent
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.ray_options import RayOptions
from refusalscope.pipeline.run_all import make_folder, run_one, write_several
from refusalscope.report.selection_table import SelectionRow, failed_row

_LOG = logging.getLogger(__name__)
LOCAL = "local"
_ADDRESS = re.compile(rf"{LOCAL}|auto|(?:ray://)?[\w.-]{{1,253}}:[0-9]{{1,5}}", re.ASCII)
_RETRIES = 3
"""Times that a task is begun again whose worker died."""
_CONNECT_SECONDS = 10.0
_HELD_SECONDS = 60.0
"""A killed worker may hold its folder for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayTasks:
    """Where tasks run, and what each of them needs.

    Attributes:
        address: Of a cluster, or `local` for one that lives as long as the command.
        cpus: Cores of a model's task.
        gpus: Accelerators of a model's task; a part of one where several models share it.
    """

    address: str = LOCAL
    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(cls, options: RayOptions) -> "RayTasks | None":
        """What the options say; None where they do not ask for Ray.

        Raises:
            InputError: what tasks need without a Ray to run them, or no address.
        """
        needs = {"cpus": options.cpus_per_model, "gpus": options.gpus_per_model}
        given = {name: value for name, value in needs.items() if value is not None}
        if options.ray is None:
            if given:
                flag = f"--{next(iter(given))}-per-model"
                raise InputError(f"{flag} is about a Ray task; give --ray with it")
            return None
        if not _ADDRESS.fullmatch(options.ray):
            raise InputError(
                f"--ray is {options.ray!r}, expected HOST:PORT, ray://HOST:PORT, auto, or {LOCAL} "
                f"for a Ray that is started here"
            )
        return cls(address=options.ray, **given)


def run_all_on_ray(
    runs: Sequence[tuple[str, RunOptions]],
    out: Path,
    options: RayTasks,
    *,
    progress: Progress | None = None,
) -> list[SelectionRow]:
    """Run every model as a task, or go on where it is; then write the table.

    Raises:
        MissingExtraError: Ray is not installed.
        EngineError: the cluster cannot be reached, or has not what a task needs.
    """
    make_folder(out)
    # What Ray has to say of workers that died is for whoever watches, not part of the result.
    with redirect_stdout(sys.stderr), _cluster(options) as ray:
        _require_resources(ray, options)
        task = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=_RETRIES)(_task)
        place = str(Path.cwd())
        waiting = {
            task.remote(name, own.to_json(), str(out.resolve()), place): name for name, own in runs
        }
        rows: dict[str, SelectionRow] = {}
        with (progress or Silent()).stage("models", len(runs), unit="models") as advance:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                name = waiting.pop(ready)
                rows[name] = _row(ray, name, ready)
                advance(1)
    found = [rows[name] for name, _ in runs]
    write_several(found, out)
    return found


def _row(ray: Any, name: str, ready: Any) -> SelectionRow:  # noqa: ANN401 - a module, a reference
    """What a task found, or why it found nothing."""
    try:
        return SelectionRow.from_json(ray.get(ready), source=f"the task of {name}")
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        _LOG.warning("%s: its task failed: %s", name, said[-1])
        return failed_row(name, f"its task failed: {said[-1]}")


def _task(name: str, options: str, out: str, place: str) -> str:
    """One model in a worker; paths are those of whoever gave the command."""
    os.chdir(place)
    own = RunOptions.from_json(options, source="the options of the run")
    return run_one(name, own, Path(out), held_seconds=_HELD_SECONDS).to_json()


@contextmanager
def _cluster(options: RayTasks) -> Generator[Any]:
    """Ray, connected; what was started here ends with the context."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports] # noqa: PLC0415 - extra `dist`
    except ImportError as error:
        raise MissingExtraError("--ray", package="ray", extra="dist") from error
    _require_listener(options.address)
    try:
        ray.init(
            address=options.address,
            include_dashboard=False if options.address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise _no_cluster(options.address, said[0]) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes.

    Raises:
        EngineError: nobody does.
    """
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, why: str) -> EngineError:
    return EngineError(
        f"no Ray cluster at {address!r} ({why}); give the address of one that runs, or {LOCAL!r}"
    )


def _require_resources(ray: Any, options: RayTasks) -> None:  # noqa: ANN401
    """A task that asks for what no node has would wait for ever."""
    for name, needed in (("CPU", options.cpus), ("GPU", options.gpus)):
        most = max((node["Resources"].get(name, 0.0) for node in ray.nodes()), default=0.0)
        if needed > most:
            raise EngineError(
                f"a task needs {needed:g} {name} and no node of the Ray cluster has more than "
                f"{most:g}; give less with --{name.lower()}s-per-model"
            )
