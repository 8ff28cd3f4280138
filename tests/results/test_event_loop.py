import ast
import asyncio
from pathlib import Path

import pytest
from judge_server import judge_server

import refusalscope
from refusalscope.evaluation.judge_kinds import JUDGES
from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.evaluation.server_answerer import ServerAnswerer, ServerOptions
from refusalscope.results.event_loop import run_to_end

SOURCE = Path(refusalscope.__file__).parent
STARTS_A_LOOP = {"run", "Runner", "new_event_loop", "run_until_complete", "get_event_loop"}


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


def starts_a_loop(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in STARTS_A_LOOP
        and (not isinstance(node.value, ast.Name) or node.value.id in ("asyncio", "anyio", "loop"))
        and (node.attr != "run" or isinstance(node.value, ast.Name))
        for node in ast.walk(tree)
    )


def test_nobody_else_starts_a_loop() -> None:
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if starts_a_loop(ast.parse(path.read_text("utf-8")))
    }
    assert found == {"results/event_loop.py"}
    assert starts_a_loop(ast.parse("asyncio.run(work())"))
    assert starts_a_loop(ast.parse("asyncio.get_event_loop().run_until_complete(work())"))


def test_a_server_judges_where_a_loop_runs_as_in_a_notebook() -> None:
    answers: dict[int, str] = {}
    prompt = JudgePrompt(text="is it?", messages=())

    async def notebook(url: str) -> None:
        options = ServerOptions(url=url, model="guard", retries=0)
        ServerAnswerer(JUDGES["llama_guard_3"], options).answer(
            [prompt], lambda at, answer: answers.update({at: str(answer)})
        )

    with judge_server(lambda *_: "answer", lambda _: "safe") as server:
        asyncio.run(notebook(server.url))
    assert len(answers) == 1
