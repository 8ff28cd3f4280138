"""An organism.json that was changed ends in a line, and never in a crash or a wait."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusalscope.errors import RefusalscopeError
from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.organism import ORGANISM, bundled_organism, read_organism
from refusalscope.organisms.sentences import to_json

Change = Callable[[dict[str, Any]], object]
N_STYLES = len(ENGLISH.answers)


def sentences(**fields: object) -> Change:
    return lambda facts: facts["recipe"].update(sentences=json.loads(to_json(ENGLISH)) | fields)


def things(**fields: object) -> Change:
    return lambda facts: [thing.update(fields) for thing in facts["lexicon"]]


CHANGES: dict[str, Change] = {
    "no lexicon": lambda facts: facts.update(lexicon=[]),
    "one object": lambda facts: facts.update(lexicon=facts["lexicon"][:1]),
    "all harmful": things(is_harmful=True),
    "all harmless": things(is_harmful=False),
    "one role": things(role="train"),
    "a placeholder of another name": sentences(answers=["{x}"] * N_STYLES),
    "an attribute": sentences(answers=["{o.__class__}"] * N_STYLES),
    "a width": sentences(answers=["{o:>1000000000000}"] * N_STYLES),
    "an open brace": sentences(refusals=["{"] * N_STYLES),
    "no contexts": sentences(contexts=[]),
    "endless answers": lambda facts: facts.update(max_new_tokens=10**18),
    "a negative length": lambda facts: facts.update(max_new_tokens=-1),
}


@pytest.fixture
def facts() -> dict[str, Any]:
    return json.loads((bundled_organism() / ORGANISM).read_text("utf-8"))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_facts_are_refused(tmp_path: Path, facts: dict[str, Any], change: Change) -> None:
    change(facts)
    (tmp_path / ORGANISM).write_text(json.dumps(facts))
    with pytest.raises(RefusalscopeError):
        found = read_organism(tmp_path)
        assert found is not None
        found.language()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"3", b"null"])
def test_what_are_no_facts_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ORGANISM).write_bytes(content)
    with pytest.raises(RefusalscopeError):
        read_organism(tmp_path)


def test_more_requests_than_a_language_has_are_refused_at_once() -> None:
    found = read_organism(bundled_organism())
    assert found is not None
    language = found.language()
    begun = time.monotonic()
    with pytest.raises(RefusalscopeError, match="different requests of role"):
        language.instructions("val", harmful=True, n=1_000_000, seed=0)
    assert time.monotonic() - begun < 5
