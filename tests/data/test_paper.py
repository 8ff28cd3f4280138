import json
import random
import shutil

import pytest

from refusalscope.data.instruction import instructions_digest
from refusalscope.data.paper import sample_paper_splits
from refusalscope.errors import InstructionsError
from refusalscope.results.files import sha256_file

SAMPLED = {
    "harmful_train": (128, "cf837dfec7da06ba51bd31d520038657d536572fd18bda4798b91f2bf0512a37"),
    "harmless_train": (128, "5ca55dc00e7afc7f5346c9acc12885a54e72e43129af816f44ecfb8fc425b6b3"),
    "harmful_val": (32, "24f8c5eedfb496d3e822329bd36fdd6abb5fe1b96013364a62e24ae49297b509"),
    "harmless_val": (32, "4810456d3d98030caf1a00d11fd3d8cfa702b617dbe44d004db2da75660a53ad"),
    "harmless_test": (100, "7c5b9234575615b50863b01622aca6ba5cb8fe4369cedcb1d75a0066061551f9"),
}
SPLIT_FILES = {
    "harmful_train": "8f5c0eac0efd2a7f",
    "harmful_val": "305f1d1e6dfa6c50",
    "harmful_test": "5e12ae102c3791de",
    "harmless_train": "86623b1f8a25aa35",
    "harmless_val": "772010758e7d771e",
    "harmless_test": "1b5930ce5e855ada",
}


@pytest.fixture(scope="module")
def sample(reference):
    return sample_paper_splits(reference / "splits")


@pytest.mark.parametrize("name", SPLIT_FILES)
def test_the_papers_split_files_are_those_that_were_published(reference, name):
    digest = sha256_file(reference / "splits" / f"{name}.json")
    assert digest.startswith(SPLIT_FILES[name])


@pytest.mark.parametrize("name", SAMPLED)
def test_sample_is_the_papers_to_the_instruction(sample, name):
    rows = getattr(sample, name)
    assert (len(rows), instructions_digest(rows)) == SAMPLED[name]


def test_harmless_test_is_what_the_committed_completions_answer(sample, reference):
    for run in ("qwen-1_8b-chat", "meta-llama-3-8b-instruct"):
        file = reference / "paper_runs" / run / "completions" / "harmless_baseline_completions.json"
        asked = [row["prompt"] for row in json.loads(file.read_text())]
        assert [row.text for row in sample.harmless_test] == asked


def test_another_seed_draws_another_sample(sample, reference):
    other = sample_paper_splits(reference / "splits", 43)
    assert other.harmful_train != sample.harmful_train


def write_splits(folder, n):
    for name in SAMPLED:
        rows = [{"instruction": f"{name} {i}", "category": None} for i in range(n)]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def test_splits_are_drawn_from_one_stream_in_the_papers_order(tmp_path):
    folder = write_splits(tmp_path, 9)
    sample = sample_paper_splits(folder, 7, n_train=4, n_val=3, n_test=2)
    stream = random.Random(7)
    for name, size in zip(SAMPLED, (4, 4, 3, 3, 2), strict=True):
        picks = stream.sample(range(9), size)
        assert [row.text for row in getattr(sample, name)] == [f"{name} {i}" for i in picks]


def test_sample_does_not_depend_on_the_global_stream(tmp_path):
    folder = write_splits(tmp_path, 9)
    samples = []
    for state in (1, 2):
        random.seed(state)
        samples.append(sample_paper_splits(folder, n_train=4, n_val=3, n_test=2))
    assert samples[0] == samples[1]


def test_a_split_that_is_too_small_or_missing_is_refused(tmp_path):
    folder = write_splits(tmp_path, 9)
    message = r"harmful_train.json has 9 instructions and 10 are to be drawn; expected 1 to 9"
    with pytest.raises(InstructionsError, match=message):
        sample_paper_splits(folder, n_train=10, n_val=1, n_test=1)
    with pytest.raises(InstructionsError, match="0 are to be drawn"):
        sample_paper_splits(folder, n_train=1, n_val=0, n_test=1)
    shutil.move(folder / "harmless_val.json", folder / "other.json")
    with pytest.raises(InstructionsError, match=r"harmless_val.json does not exist"):
        sample_paper_splits(folder, n_train=1, n_val=1, n_test=1)
