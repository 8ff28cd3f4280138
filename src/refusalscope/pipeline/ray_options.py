"""What `run-all` is asked to do with Ray."""

from typing import Annotated

from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Factor
from refusalscope.results.record import Record


class RayOptions(Record):
    """Whether models run side by side on Ray."""

    ray: Annotated[
        str | None,
        Flag("Run models side by side on a Ray cluster: its address; local starts one."),
    ] = None
    cpus_per_model: Annotated[Factor | None, Flag("Cores of a model's task on Ray; 1.")] = None
    gpus_per_model: Annotated[
        Factor | None, Flag("Accelerators of a model's task on Ray; none.")
    ] = None
