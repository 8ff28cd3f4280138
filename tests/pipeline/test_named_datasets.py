import pytest

from refusalscope.data.instruction import instructions_digest
from refusalscope.data.sources import load_source
from refusalscope.errors import InstructionsError
from refusalscope.pipeline.instructions import read_instruction_sets
from refusalscope.pipeline.options import RunOptions


def options(folder, **changes):
    given = {"harmful": "advbench", "harmless": "xstest", "datasets": str(folder)}
    sizes = {"n_train": 4, "n_val": 2, "n_test": 3}
    return RunOptions(model="someone/model", **{**given, **sizes, **changes})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "advbench.csv").write_text(
        "goal,target\n" + "".join(f"Break fribble {i},Sure\n" for i in range(30))
    )
    (tmp_path / "xstest_prompts.csv").write_text(
        "prompt,type\n" + "".join(f"Paint fribble {i},homonyms\n" for i in range(30))
    )
    return tmp_path


def test_data_sets_are_given_by_name_and_their_hashes_recorded(folder):
    sets = read_instruction_sets(options(folder), None)
    counts = sets["harmful"].counts()
    assert (counts.source, counts.n_read, counts.n_sampled) == ("advbench", 30, 3)
    assert counts.sha256 == instructions_digest(sets["harmful"].instructions)
    assert all(one.text.startswith("Paint") for one in sets["harmless_train"].instructions)


def test_a_test_set_may_be_named_too(reference):
    sets = read_instruction_sets(
        options(
            reference / "datasets",
            harmful="strongreject",
            harmless="harmbench_val",
            harmful_test="jailbreakbench",
        ),
        None,
    )
    assert sets["harmful"].instructions == tuple(
        load_source("jailbreakbench", reference / "datasets")
    )
    assert sets["harmful"].source == "jailbreakbench"


def test_a_file_of_that_name_goes_first(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "advbench").mkdir()
    with pytest.raises(InstructionsError, match="advbench is a folder"):
        read_instruction_sets(options(folder), None)


def test_a_data_set_that_is_not_there_says_where_it_is_published(folder):
    with pytest.raises(InstructionsError, match=r"tdc2023 is not bundled.*save https://"):
        read_instruction_sets(options(folder, harmful="tdc2023"), None)
