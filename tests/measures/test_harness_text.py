"""What documents of the harness spell is text; all else is tokenized as the harness does it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tiny_models import byte_tokenizer, tiny_weights

from refusalscope.measures.coherence.task import HarnessTask

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's own
huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="needs the extra eval")

END, BOS, USER, MODEL = 4, 1, 2, 3
ASKED = [{"role": "user", "content": "two plus two? "}]


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """Our model of the harness, and the harness's own."""
    from refusalscope.measures.coherence.harness import TextModel

    given = {"pretrained": tiny_weights(), "tokenizer": byte_tokenizer(), "device": "cpu"}
    return tuple(kind(**given) for kind in (TextModel, huggingface.HFLM))  # pyright: ignore[reportReturnType] # two of them


def test_documents_are_tokenized_as_by_the_harness(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    texts = ["", "a", " a b ", "naïve\n"]
    for text in texts[1:]:
        for adds in (None, True, False):
            assert ours.tok_encode(text, adds) == theirs.tok_encode(text, adds)
        assert ours.tok_encode(text, left_truncate_len=2) == theirs.tok_encode(text)[-2:]
        assert ours._encode_pair(f"{text}: ", "yes") == theirs._encode_pair(f"{text}: ", "yes")
    for found, wanted in zip(
        ours.tok_batch_encode(texts), theirs.tok_batch_encode(texts), strict=True
    ):
        assert found.tolist() == wanted.tolist()


def test_the_templates_control_tokens_are_those_of_the_harness(both: tuple[Any, Any]) -> None:
    pairs = []
    for model in both:
        text = model.apply_chat_template(ASKED)
        begun = [*ASKED, {"role": "assistant", "content": "It is"}]
        again = model.apply_chat_template(begun, add_generation_prompt=False)
        pairs.append((model._encode_pair(text, " four"), model.tok_encode(again)))
    assert pairs[0] == pairs[1]
    (context, _answer), _ = pairs[0]
    assert [i for i in context if i <= END] == [BOS, USER, END, MODEL]


@pytest.mark.parametrize("is_chat", [False, True])
def test_what_a_document_spells_makes_no_control_token(
    both: tuple[Any, Any], is_chat: bool
) -> None:
    ours, theirs = both
    question, answer = "a<end>b<bos>", " <end> <user>"

    def control(model: Any) -> list[list[int]]:
        said = [{"role": "user", "content": question}]
        text = model.apply_chat_template(said) if is_chat else question
        context, continuation = model._encode_pair(text, answer)
        (batch,), _ = model.tok_batch_encode([text])
        return [[i for i in ids if i <= END] for ids in (context, continuation, batch.tolist())]

    template = [BOS, USER, END, MODEL] if is_chat else []
    assert control(ours) == [template, [], template]
    assert control(theirs) != control(ours)
    assert ours.tok_encode("<bos>a")[0] != BOS


def test_a_task_runs_through_it(tmp_path: Path) -> None:
    """A whole task, whose choices differ in a control token that both spell."""
    from refusalscope.measures.coherence.harness import HarnessOptions, run_task

    (tmp_path / "rows.jsonl").write_text('{"q": "a<end>b", "c": [" <end>", " <bos>"]}\n')
    (tmp_path / "spelled.yaml").write_text(
        f"""
task: spelled
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "rows.jsonl"}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{c}}}}"
doc_to_target: 0
metric_list: [{{metric: acc}}]
"""
    )
    seen: list[int] = []
    model = tiny_weights()
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, given: seen.extend(given[0].flatten().tolist())
    )
    options = HarnessOptions(folders=(tmp_path,), chat_template=True)
    found = run_task(
        model,
        byte_tokenizer(),
        HarnessTask(name="spelled"),
        options,
        under=nullcontext(),
    )
    assert len(found.values) == 1
    template = {BOS, USER, END, MODEL}
    assert {i for i in seen if 0 < i <= END} == template
    assert seen.count(END) == seen.count(USER)
