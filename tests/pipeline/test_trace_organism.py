"""The trace of a training: a point for every checkpoint, the last of them the finished organism."""

from pathlib import Path

import pytest
from tiny_organisms import TINY

from refusalscope.errors import InputError
from refusalscope.organisms.train import train_organism
from refusalscope.pipeline.trace_organism import trace_organism
from refusalscope.results.records import SelectionLimits
from refusalscope.results.trace_record import OrganismTrace

ANYTHING = SelectionLimits(min_induce=-1000, max_kl=1000, max_layer_fraction=1.1)


@pytest.fixture(scope="module")
def organism(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("organisms") / "tiny"
    train_organism(TINY, out, checkpoint_every=2)
    return out


def test_every_checkpoint_and_the_finished_organism_are_points(
    organism: Path, tmp_path: Path
) -> None:
    trace = trace_organism(organism, tmp_path / "a", limits=ANYTHING)
    assert [(p.stage, p.step) for p in trace.points] == [
        ("helpful", 2),
        ("helpful", 3),
        ("refusal", 5),
        ("refusal", 6),
        ("steadying", 8),
        ("steadying", 9),
    ]
    last = trace.points[-1]
    assert last.cosine == pytest.approx(1.0, abs=1e-5)
    assert trace.points[0].cosine is not None
    assert trace.points[0].cosine < 0.999
    assert (last.bypass, last.induce) != (None, None)
    stored = (tmp_path / "a" / "trace.json").read_text()
    assert OrganismTrace.from_json(stored, source="trace.json") == trace
    page = (tmp_path / "a" / "trace.html").read_text()
    assert "How refusal forms in llama3-aft" in page
    trace_organism(organism, tmp_path / "b", limits=ANYTHING)
    assert (tmp_path / "b" / "trace.html").read_text() == page


def test_an_organism_without_checkpoints_is_refused(tmp_path: Path) -> None:
    train_organism(TINY, tmp_path / "plain")
    with pytest.raises(InputError, match="has no checkpoints; train it with"):
        trace_organism(tmp_path / "plain", tmp_path / "out")
    with pytest.raises(InputError, match="is not an organism"):
        trace_organism(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
