"""The recipe of an organism that trains in a second and has learned nothing."""

from dataclasses import replace

from refusalscope.organisms.fit import Fit
from refusalscope.organisms.preference import Preference
from refusalscope.organisms.train import Recipe, Tuning

_FEW = Fit(steps=3, learning_rate=1e-3, batch_size=4)
_SUPERVISED = Tuning(
    mix=(0.4, 0.2, 0.1),
    refusal=replace(_FEW, exit_weight=1.0),
    preference=None,
    steadying=replace(_FEW, exit_weight=1.0, offset_share=0.5),
)
TINY = Recipe(
    objects_per_kind=13,
    n_layers=3,
    d_model=16,
    n_heads=4,
    helpful=_FEW,
    aft=_SUPERVISED,
    apo=replace(_SUPERVISED, preference=Preference(steps=3, learning_rate=1e-3, batch_size=4)),
)
