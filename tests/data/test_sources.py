import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refusalscope.data import sources
from refusalscope.data.instruction import Instruction
from refusalscope.data.sources import SOURCES, load_source
from refusalscope.errors import InstructionsError


def test_the_papers_sources_are_there_with_size_licence_and_address():
    assert {name: source.n_instructions for name, source in SOURCES.items()} == {
        "advbench": 520,
        "malicious_instruct": 100,
        "tdc2023": 100,
        "harmbench_val": 41,
        "harmbench_test": 159,
        "jailbreakbench": 100,
        "strongreject": 313,
        "alpaca": 31_323,
        "xstest": 250,
        "xstest_unsafe": 200,
    }
    for name, source in SOURCES.items():
        assert source.name == name
        assert all(address.startswith("https://") for address in source.published)
        # The paper says Apache-2.0 of Alpaca; its authors say otherwise of the data.
        licences = {"alpaca": "CC BY-NC 4.0", "xstest": "CC BY 4.0", "xstest_unsafe": "CC BY 4.0"}
        assert source.license == licences.get(name, "MIT")


@pytest.mark.parametrize(
    "name", ["harmbench_test", "harmbench_val", "jailbreakbench", "strongreject"]
)
def test_processed_files_are_read_whole(reference, name):
    rows = load_source(name, reference / "datasets")
    assert len(rows) == SOURCES[name].n_instructions
    assert all(row.category for row in rows)


def test_advbench_is_read_from_its_own_file(tmp_path):
    (tmp_path / "harmful_behaviors.csv").write_text("goal,target\n  Name a colour ,Sure\n")
    assert load_source("advbench", tmp_path) == [Instruction("Name a colour")]


def test_malicious_instruct_is_read_from_its_own_file(tmp_path):
    (tmp_path / "MaliciousInstruct.txt").write_text("Name a colour\nName, a river \n")
    rows = load_source("malicious_instruct", tmp_path)
    assert rows == [Instruction("Name a colour"), Instruction("Name, a river")]


@pytest.mark.parametrize(
    "files",
    [
        ("dev/behaviors.json", "test/behaviors.json"),
        ("tdc2023_dev_behaviors.json", "tdc2023_test_behaviors.json"),
    ],
)
def test_tdc2023_is_its_two_files_one_after_the_other(tmp_path, files):
    for file, text in zip(files, ("Name a colour", "Name a river"), strict=True):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps([f" {text} "]))
    rows = load_source("tdc2023", tmp_path)
    assert rows == [Instruction("Name a colour"), Instruction("Name a river")]
    (tmp_path / files[1]).unlink()
    with pytest.raises(InstructionsError, match="does not have it"):
        load_source("tdc2023", tmp_path)


def test_harmbench_keeps_standard_behaviors_only(tmp_path):
    (tmp_path / "harmbench_behaviors_text_val.csv").write_text(
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
        "Name a colour,standard,art,,,a\n"
        "Recite a song,copyright,copyright,hash_check,,b\n"
        "Name a river,contextual,places,context,There are rivers.,c\n"
        'Name a bird,standard,animals,"x, Context",,d\n'
    )
    assert load_source("harmbench_val", tmp_path) == [Instruction("Name a colour", "art")]


def test_jailbreakbench_has_goal_and_behavior_and_goal_is_meant(tmp_path):
    (tmp_path / "behaviors.csv").write_text(
        "Index,Goal,Target,Behavior,Category,Source\n0,Name a colour,Sure,Colours,Art,Original\n"
    )
    assert load_source("jailbreakbench", tmp_path) == [Instruction("Name a colour", "Art")]


def test_strongreject_is_read_from_its_own_file(tmp_path):
    (tmp_path / "strongreject_dataset.csv").write_text(
        "category,source,forbidden_prompt\nart,custom,Name a colour\n"
    )
    assert load_source("strongreject", tmp_path) == [Instruction("Name a colour", "art")]


def test_alpaca_keeps_rows_without_an_input(tmp_path):
    rows = {
        "instruction": ["Name a colour ", "Translate this"],
        "input": [" ", "A word"],
        "output": ["Red", "Ein Wort"],
        "text": ["", ""],
    }
    pq.write_table(pa.table(rows), tmp_path / "train-00000-of-00001-a09b74b3ef9c3b56.parquet")
    assert load_source("alpaca", tmp_path) == [Instruction("Name a colour")]
    other = tmp_path / "json"
    other.mkdir()
    (other / "alpaca_data.json").write_text(
        json.dumps([dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)])
    )
    assert load_source("alpaca", other) == [Instruction("Name a colour")]


def test_the_processed_file_goes_before_the_published_one(tmp_path):
    (tmp_path / "advbench.json").write_text('[{"instruction": "processed", "category": null}]')
    (tmp_path / "harmful_behaviors.csv").write_text("goal,target\npublished,x\n")
    assert load_source("advbench", tmp_path) == [Instruction("processed")]


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_bundled_and_the_message_says_where_it_is_published(tmp_path, name):
    for folder, why in ((None, "no folder is given"), (tmp_path, "does not have it")):
        with pytest.raises(InstructionsError) as caught:
            load_source(name, folder)
        message = str(caught.value)
        assert why in message
        assert all(address in message for address in SOURCES[name].published)
        assert SOURCES[name].license in message
        assert "\n" not in message


def test_xstest_is_divided_into_its_safe_prompts_and_their_contrasts(tmp_path):
    (tmp_path / "xstest_prompts.csv").write_text(
        "id,prompt,type,label,focus,note\n"
        "1,How do I kill a process?,homonyms,safe,kill,\n"
        "2,How do I break a fribble?,contrast_homonyms,unsafe,break,\n"
    )
    assert load_source("xstest", tmp_path) == [Instruction("How do I kill a process?", "homonyms")]
    assert load_source("xstest_unsafe", tmp_path) == [
        Instruction("How do I break a fribble?", "contrast_homonyms")
    ]


def test_other_spellings_of_a_name_mean_the_same(tmp_path):
    (tmp_path / "MaliciousInstruct.txt").write_text("Name a colour\n")
    assert load_source("maliciousinstruct", tmp_path) == [Instruction("Name a colour")]
    (tmp_path / "harmbench_test.json").write_text('["Name a river"]')
    assert load_source("harmbench", tmp_path) == [Instruction("Name a river")]


def test_a_source_that_its_authors_have_on_the_hub_comes_from_there(tmp_path, monkeypatch):
    (tmp_path / "harmful-behaviors.csv").write_text("Goal,Category\nName a colour,Art\n")
    asked = []

    def download(repo_id, filename, *, repo_type):
        asked.append((repo_id, filename, repo_type))
        return str(tmp_path / "harmful-behaviors.csv")

    monkeypatch.setattr(sources, "hf_hub_download", download)
    assert load_source("jailbreakbench") == [Instruction("Name a colour", "Art")]
    assert asked == [("JailbreakBench/JBB-Behaviors", "data/harmful-behaviors.csv", "dataset")]


def test_another_number_of_instructions_than_published_is_said(tmp_path, caplog):
    (tmp_path / "advbench.csv").write_text("goal,target\nName a colour,Sure\n")
    load_source("advbench", tmp_path)
    assert "advbench has 1 instructions, its authors publish 520; all are used" in caplog.text


def test_a_file_without_the_columns_is_refused(tmp_path):
    (tmp_path / "alpaca_data.json").write_text('[{"instruction": "Name a colour"}]')
    with pytest.raises(InstructionsError, match=r"row 1 lacks instruction or input; expected the"):
        load_source("alpaca", tmp_path)
    (tmp_path / "strongreject_dataset.csv").write_text("category,prompt\nart,Name a colour\n")
    with pytest.raises(InstructionsError, match=r"row 1 has no 'forbidden_prompt', only the colu"):
        load_source("strongreject", tmp_path)
    (tmp_path / "harmbench_test.csv").write_text("Behavior,Tags,FunctionalCategory\na,context,x\n")
    with pytest.raises(InstructionsError, match="no instruction that the paper would keep"):
        load_source("harmbench_test", tmp_path)


def test_an_unknown_source_is_refused_by_name():
    with pytest.raises(
        InstructionsError, match="no source is called 'advbensch'; expected one of a"
    ):
        load_source("advbensch")


def test_a_file_of_the_hub_is_fetched_and_read(tmp_path, monkeypatch):
    (tmp_path / "rows.json").write_text('["Name a colour"]')
    asked = []

    def download(repo_id, filename, *, repo_type):
        asked.append((repo_id, filename, repo_type))
        return str(tmp_path / "rows.json")

    monkeypatch.setattr(sources, "hf_hub_download", download)
    assert load_source("hf:someone/prompts/data/rows.json") == [Instruction("Name a colour")]
    assert asked == [("someone/prompts", "data/rows.json", "dataset")]


def test_what_the_hub_does_not_give_is_one_line():
    with pytest.raises(InstructionsError) as caught:
        load_source("hf:someone/prompts/rows.json")
    assert "rows.json of the dataset someone/prompts does not come from the hub" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf:", "hf:someone", "hf:someone/prompts", "hf:someone/prompts/"])
def test_a_name_that_is_no_file_of_the_hub_is_refused(name):
    with pytest.raises(
        InstructionsError, match="does not name a file on the hub; expected hf:OWNER"
    ):
        load_source(name)


def test_only_names_that_ask_for_the_hub_reach_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "hf_hub_download", pytest.fail)
    with pytest.raises(InstructionsError):
        load_source("advbench", tmp_path)


def test_no_data_file_is_in_the_package():
    import refusalscope.data

    folder = Path(next(iter(refusalscope.data.__path__)))
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".py", ".pyc"}
