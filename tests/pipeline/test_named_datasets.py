import json
import re
from pathlib import Path

import pytest

from refusalscope.data.instruction import instructions_digest
from refusalscope.data.sources import load_source
from refusalscope.errors import InputError, InstructionsError
from refusalscope.organisms.organism import bundled_organism, read_organism
from refusalscope.pipeline.instructions import read_instruction_sets
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import command_line, run
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.results.run_records import read_run


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


def test_a_column_that_is_named_is_read_recorded_and_part_of_what_a_run_is(folder, tmp_path):
    for name in ("harmful", "harmless"):
        rows = "".join(f"Paint {name} {i},b\n" for i in range(30))
        (tmp_path / f"{name}.csv").write_text("riddle,prompt\n" + rows)
    files = {name: str(tmp_path / f"{name}.csv") for name in ("harmful", "harmless")}
    own = options(folder, **files, columns=("riddle",))
    sets = read_instruction_sets(own, None)
    assert all(one.text.startswith("Paint harmful") for one in sets["harmful"].instructions)
    assert own.model_dump(mode="json")["columns"] == ["riddle"]
    assert RunOptions.from_json(own.to_json(), source="run.json") == own
    assert "--column riddle" in command_line(own, tmp_path)
    without = options(folder, **files)
    assert stage_key("extract", own.model_dump()) != stage_key("extract", without.model_dump())


def test_a_column_without_a_file_is_refused(folder):
    own = options(folder, harmful=None, harmless=None, columns=("riddle",))
    with pytest.raises(InputError, match="--column names a column of a file"):
        read_instruction_sets(own, None)


def test_an_option_that_earlier_runs_do_not_have_leaves_them_what_they_are(folder):
    assert "columns" not in options(folder).model_dump(mode="json")


def test_rows_that_are_left_out_are_told_to_the_user_and_kept_with_the_run(tmp_path, caplog):
    organism = read_organism(Path(bundled_organism()))
    assert organism is not None
    language = organism.language()
    for kind in ("harmful", "harmless"):
        asked = [
            one.instruction
            for role in ("train", "val", "test")
            for one in language.instructions(role, harmful=kind == "harmful", n=12, seed=0)
        ]
        rows = [{"instruction": text, "input": "", "output": "x"} for text in dict.fromkeys(asked)]
        rows += [{"instruction": f"Sum up {i}", "input": "a text", "output": "x"} for i in range(3)]
        (tmp_path / f"{kind}.json").write_text(json.dumps(rows))
    run(
        RunOptions(
            harmful=str(tmp_path / "harmful.json"),
            harmless=str(tmp_path / "harmless.json"),
            n_train=4,
            n_val=2,
            n_test=2,
            filter_instructions=False,
        ),
        tmp_path / "run",
        until="extract",
    )
    kept = read_run(tmp_path / "run").extraction
    assert kept is not None
    for kind in ("harmful", "harmless"):
        said = [line for line in kept.warnings if f"{kind}.json" in line]
        assert len(said) == 1
        assert re.search(r"3 of \d+ rows have a second text in 'input'", said[0])
        assert said[0] in caplog.messages
