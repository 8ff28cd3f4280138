"""A loaded model and its answers."""

import pytest
from tiny_models import save_tiny

import refusalscope as rs

ASKED = [f"paint the door of house {i} {'again ' * (i % 3)}" for i in range(7)]


def test_answers_come_in_the_order_of_the_instructions_whatever_the_batch(model: rs.Model) -> None:
    alone = [model.answer(text, max_new_tokens=4)[0] for text in ASKED]
    for batch_size in (1, 3, 64):
        assert model.answer(ASKED, max_new_tokens=4, batch_size=batch_size) == alone
    instructions = [rs.Instruction(text) for text in ASKED]
    assert model.answer(instructions, max_new_tokens=4) == alone


def test_what_is_wrong_is_one_line(
    model: rs.Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("other")
    save_tiny(folder / "tiny")
    bad = {
        "no/such": lambda: rs.load("no/such model"),
        "'nobody'": lambda: rs.load("organism:nobody"),
        "revision": lambda: rs.load(folder / "tiny", revision="main"),
        "max_new_tokens is '0'": lambda: model.answer("a", max_new_tokens=0),
        "batch_size is '0'": lambda: model.answer("a", batch_size=0),
        "nothing was given": lambda: model.answer([]),
        "is blank": lambda: model.answer(" "),
        "do not fit": lambda: model.answer("a" * 5000),
    }
    for told, call in bad.items():
        with pytest.raises(rs.InputError) as error:
            call()
        assert told in str(error.value), (told, str(error.value))
        assert "\n" not in str(error.value)


def test_a_model_shows_itself_escaped(model: rs.Model) -> None:
    html = model._repr_html_()
    assert "&lt;model&gt;" in html, "the template's last token"
    assert "<model>" not in html
    assert "LlamaForCausalLM" in html
    assert repr(model).endswith("2 layers, d_model 32)")
