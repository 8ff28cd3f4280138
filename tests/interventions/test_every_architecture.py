"""Every architecture that docs/architectures.md lists can be intervened on, a row at a time.

What a row of a batch gives under its own intervention is what the prompt gives alone.
"""

import re
from pathlib import Path

import pytest
import torch

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.mechanism.where_it_acts import _edit
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.miniature import build_miniature, miniature_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"
HOLDS = PAGE.read_text(encoding="utf-8").partition("## Holds")[2].partition("## Refused")[0]
SUPPORTED = re.findall(r"^\| (\S+) \| \w+ \|", HOLDS, flags=re.MULTILINE)
FLAT = ("llama4", "llama4_text", "opt")
"""Some of their writers return the tokens of all rows on one axis."""
SAMPLE = (*FLAT, "cpmant", "gpt_oss", "llama", "xlstm")
REST = [name for name in SUPPORTED if name not in SAMPLE]


def difference_between_batch_and_alone(model_type: str) -> float:
    """The largest difference of a logit, as a share of the largest logit."""
    model = build_miniature(miniature_config(model_type))
    anatomy = measure_anatomy(model, with_feeders=False)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 60, (3, 7), generator=generator)
    vector = torch.randn(anatomy.d_model, generator=generator)
    rows = [
        None,
        Intervention(operator="ablate", vector=vector),
        Intervention(operator="add", vector=3 * vector, layer=1),
    ]
    with torch.inference_mode():
        with intervene(model, anatomy, rows):
            batch = model(ids).logits
        worst = 0.0
        for i, row in enumerate(rows):
            with intervene(model, anatomy, [row]):
                alone = model(ids[i : i + 1]).logits[0]
            worst = max(worst, float((alone - batch[i]).abs().max() / alone.abs().max()))
    return worst


@pytest.mark.parametrize("model_type", SAMPLE)
def test_a_row_of_a_batch_is_intervened_on_as_if_it_were_alone(model_type: str) -> None:
    assert difference_between_batch_and_alone(model_type) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("model_type", REST)
def test_a_row_of_every_other_architecture_is_intervened_on_as_if_it_were_alone(
    model_type: str,
) -> None:
    assert difference_between_batch_and_alone(model_type) < 1e-3


def test_the_page_lists_architectures_to_try() -> None:
    assert len(SUPPORTED) > 100
    assert set(SAMPLE) <= set(SUPPORTED)


def test_tokens_of_a_batch_on_one_axis_are_ablated_where_the_mask_says() -> None:
    unit = torch.nn.functional.normalize(torch.ones(4), dim=0)
    hidden = torch.arange(24.0).reshape(6, 4)
    mask = torch.tensor([[True, False, False], [False, False, True]])[..., None]
    edited = _edit(unit, mask)(hidden)
    is_edited = (edited != hidden).any(-1)
    assert is_edited.tolist() == [True, False, False, False, False, True]
    assert torch.equal(edited.reshape(2, 3, 4), _edit(unit, mask)(hidden.reshape(2, 3, 4)))
