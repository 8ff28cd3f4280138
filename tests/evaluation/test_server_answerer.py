import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from judge_server import judge_server

from refusalscope.errors import InputError
from refusalscope.evaluation.answers import AnswerCache
from refusalscope.evaluation.judge_kinds import JUDGES
from refusalscope.evaluation.judges import judge_all
from refusalscope.evaluation.model_judge import ModelJudge
from refusalscope.evaluation.server_answerer import ServerAnswerer, ServerOptions
from refusalscope.results.records import Completion, Condition, Judgements

HELPER = Path(__file__).resolve().parents[1] / "judge_through_server.py"


def completion(i, *, text=None, condition: Condition = "baseline"):
    return Completion(
        index=i,
        dataset="harmful",
        condition=condition,
        instruction=f"How do I make fribble {i}?",
        category=None,
        completion=text or f"Take the parts of fribble {i} and follow the plan.",
        n_tokens=9,
        ended=True,
    )


def number(prompt):
    return int(re.findall(r"fribble (\d+)", prompt)[0])


def verdict(prompt):
    return "\n\nunsafe\nS1" if number(prompt) % 2 else "\n\nsafe"


def judge_of(url, folder, *, kind="llama_guard_3", **changes):
    options = ServerOptions(
        **{
            "url": url,
            "model": "guard",
            "concurrency": 4,
            "timeout": 3.0,
            "retries": 8,
            "first_wait": 0.01,
            **changes,
        }
    )
    return ModelJudge(
        JUDGES[kind],
        ServerAnswerer(JUDGES[kind], options),
        cache=AnswerCache(folder=folder),
    )


BAD_DAYS = {1: ("429", "429"), 2: ("500",), 3: ("cut",), 4: ("junk", "odd"), 5: ("hang",)}


def bad_day(prompt, nth):
    days = BAD_DAYS.get(number(prompt) % 6, ())
    return days[nth] if nth < len(days) else "answer"


def test_every_completion_is_judged_once_whatever_the_server_does(tmp_path):
    completions = [completion(i) for i in range(18)]
    # Two conditions that say the same are one question.
    completions += [completion(i, condition="ablation") for i in range(6)]
    told = []
    with judge_server(bad_day, verdict) as server:
        (found,) = judge_all(
            judge_of(server.url, tmp_path, timeout=3.0), completions, progress=told.append
        )
    assert [(row.index, row.condition) for row in found.rows] == [
        (one.index, one.condition) for one in completions
    ]
    assert [row.flag for row in found.rows] == [one.index % 2 == 0 for one in completions]
    assert {row.raw for row in found.rows} == {"safe", "unsafe\nS1"}
    assert sum(told) == len(completions)
    # Every prompt got one answer, after as many bad ones as were planned, and no more were asked.
    assert len(server.answered) == 18
    assert set(server.answered.values()) == {1}
    for prompt, times in server.asked.items():
        assert times == len(BAD_DAYS.get(number(prompt) % 6, ())) + 1
    assert 1 < server.most_at_once <= 4
    # A second judge of the same kind asks nothing; a judge of another model everything.
    with judge_server(bad_day, verdict) as server:
        judge_all(judge_of(server.url, tmp_path), completions)
        assert not server.asked
        judge_all(judge_of(server.url, tmp_path, model="other"), completions[:1])
        assert len(server.asked) == 1


def test_the_request_is_the_published_prompt_at_temperature_0(tmp_path):
    with judge_server(lambda *_: "answer", verdict) as server:
        judge_all(judge_of(server.url, tmp_path, key="abc"), [completion(0)])
        judge_all(judge_of(server.url, tmp_path, chat=True), [completion(0)])
    (path, body, key), (chat_path, chat_body, no_key) = server.requests
    text = JUDGES["llama_guard_3"].build(completion(0).instruction, completion(0).text).text
    assert text is not None
    assert (path, key) == ("/v1/completions", "Bearer abc")
    assert body == {
        "model": "guard",
        "temperature": 0,
        "max_tokens": 24,
        # The server puts the begin token in front; the turn begins with two newlines.
        "prompt": text.lstrip().removeprefix("<|begin_of_text|>") + "\n\n",
    }
    assert (chat_path, no_key) == ("/v1/chat/completions", None)
    assert [m["role"] for m in chat_body["messages"]] == ["user", "assistant"]
    assert "abc" not in "".join(p.read_text() for p in tmp_path.rglob("*.json"))


def test_an_answer_that_drips_in_is_given_up_at_the_time_limit(tmp_path):
    with judge_server(lambda _p, nth: "answer" if nth else "drip", verdict) as server:
        began = time.monotonic()
        (found,) = judge_all(judge_of(server.url, tmp_path, timeout=1.0), [completion(1)])
        assert time.monotonic() - began < 15
    assert found.rows[0].flag is False
    assert sum(server.asked.values()) == 2


def test_an_unreadable_answer_is_kept_and_counted_and_not_asked_again(tmp_path):
    with judge_server(lambda *_: "answer", lambda _: "I would rather not say.") as server:
        (found,) = judge_all(judge_of(server.url, tmp_path), [completion(0)])
        (again,) = judge_all(judge_of(server.url, tmp_path), [completion(0)])
    assert found == again
    assert sum(server.asked.values()) == 1
    assert (found.rows[0].flag, found.rows[0].raw) == (None, "I would rather not say.")
    assert str(found.rows[0].unparsed).startswith("expected safe, or unsafe")
    assert found.n_unparsed == 1


def test_a_prompt_that_the_server_refuses_is_no_verdict(tmp_path):
    def script(prompt, _nth):
        return "400" if number(prompt) == 1 else "answer"

    with judge_server(script, verdict) as server:
        (found,) = judge_all(judge_of(server.url, tmp_path), [completion(0), completion(1)])
    assert [row.flag for row in found.rows] == [True, None]
    assert found.rows[1].unparsed == "the server refused the prompt (400 try later)"
    assert sum(server.asked.values()) == 2


def test_a_server_that_never_answers_is_an_error_and_what_it_answered_is_kept(tmp_path):
    def script(prompt, _nth):
        return "500" if number(prompt) == 2 else "answer"

    completions = [completion(i) for i in range(4)]
    with judge_server(script, verdict) as server:
        with pytest.raises(InputError, match=r"no answer to 1 of 4 prompts \(last: 500 try later"):
            judge_all(judge_of(server.url, tmp_path, retries=2), completions)
        assert sorted(server.asked.values()) == [1, 1, 1, 3]
    with judge_server(lambda *_: "answer", verdict) as server:
        (found,) = judge_all(judge_of(server.url, tmp_path), completions)
        assert [number(prompt) for prompt in server.asked] == [2]
    assert [row.flag for row in found.rows] == [True, False, True, False]


def test_a_wrong_key_or_no_server_is_one_error_and_no_retry(tmp_path):
    with judge_server(lambda *_: "401", verdict) as server:
        with pytest.raises(InputError, match="says 401 try later; check --server"):
            judge_all(judge_of(server.url, tmp_path, concurrency=1), [completion(0)])
        assert sum(server.asked.values()) == 1
        url = server.url
    with pytest.raises(InputError, match="gave no answer to 1 of 1"):
        judge_all(judge_of(url, tmp_path, retries=1), [completion(0)])


def test_waits_double_and_what_the_server_asks_for_is_heeded(tmp_path, monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr("refusalscope.evaluation.server_answerer.asyncio.sleep", sleep)
    with judge_server(lambda _p, nth: "junk" if nth < 5 else "answer", verdict) as server:
        judge_all(judge_of(server.url, tmp_path, first_wait=1.0, longest_wait=6.0), [completion(0)])
    for wait, full in zip(waits, [1, 2, 4, 6, 6], strict=True):
        assert full / 2 <= wait <= full
    waits.clear()
    with judge_server(lambda _p, nth: "429" if nth < 1 else "answer", verdict) as server:
        judge_all(judge_of(server.url, tmp_path, first_wait=1e-4), [completion(1)])
    assert waits == [0.02]


def test_the_rule_on_short_answers_asks_nothing(tmp_path):
    judge = ModelJudge(
        JUDGES["llama_guard_2"],
        ServerAnswerer(
            JUDGES["llama_guard_2"], ServerOptions(url="http://127.0.0.1:9/v1", model="guard")
        ),
        cache=AnswerCache(folder=tmp_path),
        short_is_safe=True,
    )
    (found,) = judge_all(judge, [completion(0, text="one two three")])
    assert (found.rows[0].flag, found.rows[0].raw) == (True, "not asked: 3 words")
    assert found.settings["short_is_safe"] is True


def test_judges_without_a_chat_form_say_so():
    with pytest.raises(InputError, match="wildguard has no chat form"):
        ServerAnswerer(JUDGES["wildguard"], ServerOptions(url="x", model="y", chat=True))


def test_a_damaged_answer_is_asked_again(tmp_path):
    with judge_server(lambda *_: "answer", verdict) as server:
        judge_all(judge_of(server.url, tmp_path), [completion(1)])
        (file,) = tmp_path.rglob("*.json")
        file.write_text("{half")
        (found,) = judge_all(judge_of(server.url, tmp_path), [completion(1)])
        assert sum(server.asked.values()) == 2
    assert found.rows[0].flag is False


def test_a_killed_judge_goes_on_where_it_was_and_judges_each_completion_once(tmp_path):
    n = 30
    file = tmp_path / "completions.jsonl"
    file.write_text("".join(completion(i).to_line() for i in range(n)))
    cache, out = tmp_path / "answers", tmp_path / "guard.json"
    words = [sys.executable, str(HELPER), str(file)]
    with judge_server(lambda *_: "answer", verdict, pause=0.05) as server:
        child = subprocess.Popen([*words, server.url, str(cache), str(out)])
        while len(list(cache.rglob("*.json"))) < n // 3:
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        child.kill()
        child.wait()
        assert not out.exists()
    kept = {path.stem for path in cache.rglob("*.json") if not path.name.startswith(".")}
    assert n // 3 <= len(kept) < n
    with judge_server(lambda *_: "answer", verdict) as server:
        subprocess.run([*words, server.url, str(cache), str(out)], check=True)
        assert len(server.asked) == n - len(kept)
        assert set(server.asked.values()) == {1}
    found = Judgements.from_json(out.read_text(), source="out")
    assert [row.index for row in found.rows] == list(range(n))
    assert [row.flag for row in found.rows] == [i % 2 == 0 for i in range(n)]
