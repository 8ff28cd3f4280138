"""A monitor of a tiny model, made up."""

from typing import Any

import torch

from refusalscope.data.instruction import Instruction
from refusalscope.monitors.monitor import Monitor, digests
from refusalscope.monitors.readout import Readout
from refusalscope.results.monitor_records import MonitorFacts, Platt


def facts(**changes: Any) -> MonitorFacts:
    known: dict[str, Any] = {
        "kind": "logistic",
        "site": "resid",
        "layer": 1,
        "pool": "instruction",
        "token": None,
        "window": None,
        "d_model": 32,
        "n_layers": 2,
        "threshold": 0.25,
        "fpr": 0.01,
        "n_threshold": 400,
        "is_threshold_apart": True,
        "platt": Platt(intercept=-1.0, slope=2.0),
        "penalty": 0.1,
        "is_ablated": True,
        "held_out": ("virus",),
        "layers": (),
        "fitted_on": (),
        "model": "tiny",
        "weights_sha256": None,
        "template_sha256": None,
        "seed": 0,
        "versions": {},
    }
    return MonitorFacts(**{**known, **changes})


def monitor(**changes: Any) -> Monitor:
    generator = torch.Generator().manual_seed(0)
    weight, mean = torch.randn(2, 32, generator=generator, dtype=torch.float64)
    return Monitor(
        facts=facts(**changes),
        readout=Readout(
            weight=weight, mean=mean, scale=torch.full((32,), 2.0).double(), bias=0.125
        ),
        seen=digests([Instruction("open the door"), Instruction("shut it")]),
    )
