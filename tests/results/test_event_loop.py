import asyncio

import pytest

from refusalscope.results.event_loop import run_to_end


async def _seven() -> int:
    await asyncio.sleep(0)
    return 7


async def _fails() -> int:
    raise ValueError("no answer")


def test_work_is_done_with_and_without_a_loop_that_runs_as_in_a_notebook() -> None:
    assert run_to_end(_seven) == 7

    async def notebook() -> int:
        return run_to_end(_seven)

    assert asyncio.run(notebook()) == 7


def test_an_error_comes_out_as_it_is() -> None:
    async def notebook() -> int:
        return run_to_end(_fails)

    with pytest.raises(ValueError, match="no answer"):
        run_to_end(_fails)
    with pytest.raises(ValueError, match="no answer"):
        asyncio.run(notebook())
