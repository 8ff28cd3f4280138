"""Where one channel owns the difference, the comparison of estimators says which mend it."""

from pathlib import Path
from typing import Any

import pytest
from loud_organism import partial_norms, save_loud
from sessions import in_session

import refusalscope as rs
from refusalscope.measures.estimators.page import agreement
from refusalscope.measures.estimators.record import Estimators
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.measures import measure_named
from refusalscope.results.records import ExtractionFacts
from refusalscope.results.run_records import EXTRACTION, read_record

pytestmark = pytest.mark.slow
KIND = measure_named("estimators")


def test_difference_in_means_fails_and_the_mended_ones_do_not(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"n_train": 64, "n_val": 16, "n_test": 20}
    plain = rs.find_direction(rs.load("organism:llama3-aft"), **sizes)
    vector = plain.direction.vector
    folder = save_loud(tmp_path / "loud", vector / vector.norm())
    out = tmp_path / "run"
    with partial_norms(plain.model.d_model):
        run(RunOptions(model=str(folder), random_suffix=0, **sizes), out)
        in_session(measure, out, KIND)
    record = read_record(Estimators, out / KIND.path())
    found = {one.name: one for one in record.choices}
    assert found["difference_in_means"].failed_limits
    for name in ("masked", "discriminant"):
        own = found[name]
        assert own.same_as is None
        assert own.failed_limits == ()
        assert own.harmful is not None
        assert own.harmless is not None
        assert own.harmful.rate <= 0.05
        assert own.harmless.rate >= 0.9
        assert own.cosine_plain is not None
        assert own.cosine_plain < 0.5
    chosen = found["difference_in_means"].chosen
    assert chosen is not None
    assert (record.position, record.layer) == (chosen.position, chosen.layer)
    said = agreement(record)
    assert "masked" in said
    assert "is turned away from it there" in said
    facts = read_record(ExtractionFacts, out / EXTRACTION)
    assert any("one residual channel is more than half" in line for line in facts.warnings)
