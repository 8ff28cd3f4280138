"""A run's folder held for writing, and its model, loaded once for whatever is measured of it."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path

from refusalscope.pipeline.context import Progress, RunContext, Silent
from refusalscope.pipeline.folder_lock import only_writer
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.reopen import own_options, reopen_any, require_direction
from refusalscope.pipeline.run import do_stages, load
from refusalscope.pipeline.run_folder import kept_manifest
from refusalscope.results.run_records import RUN


@dataclass
class Session:
    """One run and any number of measurements of it.

    The model is loaded when one first needs it and stays; what needs none never loads it.

    Attributes:
        trust_remote_code: Consent of whoever asks to code that comes with models; kept nowhere.
        server_key: Sent to the judges' server, never written.
    """

    folder: Path
    _: KW_ONLY
    progress: Progress = field(default_factory=Silent)
    trust_remote_code: bool = False
    server_key: str | None = field(default=None, repr=False)

    @property
    def run(self) -> RunContext:
        """The run with its model and instructions.

        Raises:
            RunFolderError: not a run, one without a direction, or its model is not what it was.
            RefusalscopeError: any other of its kinds; see `pipeline.run.load`.
        """
        if "any_run" not in self.__dict__:
            own_options(self.folder, trust_remote_code=self.trust_remote_code)
        require_direction(self.folder)
        return self.any_run

    @cached_property
    def any_run(self) -> RunContext:
        """The run, also where it has no direction; loaded once.

        Raises:
            RunFolderError: not a run, or its model is not what it was.
            RefusalscopeError: any other of its kinds; see `pipeline.run.load`.
        """
        return reopen_any(
            self.folder, progress=self.progress, trust_remote_code=self.trust_remote_code
        )


@contextmanager
def start_session(
    options: RunOptions,
    out: Path,
    *,
    progress: Progress | None = None,
    server_key: str | None = None,
) -> Generator[Session]:
    """Do the stages of a run, and be the one that measures it until the context ends.

    The model that the stages worked with is the session's.

    Raises:
        RefusalscopeError: any of its kinds; see `pipeline.run.run`.
    """
    kept_manifest(out)
    session = Session(
        out,
        progress=progress or Silent(),
        trust_remote_code=options.trust_remote_code,
        server_key=server_key,
    )
    with only_writer(out):
        run = load(options, out, progress=session.progress)
        do_stages(run)
        session.any_run = run
        yield session


@contextmanager
def open_session(
    folder: Path,
    *,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    server_key: str | None = None,
) -> Generator[Session]:
    """Be the one that measures a run, until the context ends.

    A folder that is no run is left as it is: the first measurement says what is wrong with it.

    Raises:
        RunFolderError: another process writes to the folder.
        OutputError: the folder cannot be written to.
    """
    session = Session(
        folder,
        progress=progress or Silent(),
        trust_remote_code=trust_remote_code,
        server_key=server_key,
    )
    if not (folder / RUN).is_file():
        yield session
        return
    with only_writer(folder):
        yield session
