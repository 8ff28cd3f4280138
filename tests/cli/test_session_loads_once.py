"""A session loads its model once, whichever measure asks first."""

from pathlib import Path

import pytest

from refusalscope.errors import RunFolderError
from refusalscope.pipeline import reopen
from refusalscope.pipeline.session import open_session
from refusalscope.results.records import NoDirection
from refusalscope.results.run_records import NO_DIRECTION


@pytest.mark.parametrize("order", [("run", "any_run"), ("any_run", "run")])
def test_whatever_is_asked_first(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    loads: list[Path] = []
    real = reopen.load

    def counted(*args: object, **kwargs: object) -> object:
        loads.append(run_folder)
        return real(*args, **kwargs)  # pyright: ignore[reportArgumentType] # handed on

    monkeypatch.setattr(reopen, "load", counted)
    with open_session(run_folder) as session:
        first, second = (getattr(session, name) for name in order)
        assert first is second is session.run
    assert len(loads) == 1


def test_a_run_without_a_direction_is_refused_before_its_model_is_loaded(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = NoDirection(reason="refuses too little", text="it refuses nothing")
    (run_folder / NO_DIRECTION).write_text(lacking.to_json())
    monkeypatch.setattr(reopen, "load", lambda *_a, **_k: pytest.fail("the model is loaded"))
    with (
        open_session(run_folder) as session,
        pytest.raises(RunFolderError, match="it refuses nothing"),
    ):
        _ = session.run
