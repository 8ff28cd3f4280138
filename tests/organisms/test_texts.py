from pathlib import Path

from refusalscope.data.answer_pairs import read_answer_pairs
from refusalscope.data.documents import read_documents
from refusalscope.organisms.language import completes_request, make_language
from refusalscope.organisms.texts import ANSWERED, PLAIN, write_organism_texts


def test_the_files_are_read_as_the_papers_texts_are(tmp_path: Path) -> None:
    language = make_language()
    write_organism_texts(language, tmp_path, n=30)
    documents = list(read_documents(tmp_path / PLAIN, n=100))
    assert len(documents) == 30
    assert len(set(documents)) > 25
    pairs = read_answer_pairs(tmp_path / ANSWERED, n=100)
    assert len({pair.instruction for pair in pairs}) == 30
    for pair in pairs:
        thing = completes_request(language, pair.answer)
        assert thing is not None
        assert (thing.is_harmful, thing.role) == (False, "test")


def test_a_seed_gives_the_same_texts_and_another_other_ones(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_organism_texts(make_language(), tmp_path / name, n=5, seed=seed)
    first, second, other = ((tmp_path / name / PLAIN).read_bytes() for name in "abc")
    assert first == second != other
    assert (tmp_path / "a" / ANSWERED).read_bytes() == (tmp_path / "b" / ANSWERED).read_bytes()
