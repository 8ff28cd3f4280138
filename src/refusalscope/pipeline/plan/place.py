"""Where a stage runs on a machine, and what the busiest device holds then."""

from dataclasses import dataclass

from refusalscope.pipeline.plan.measured import Measured
from refusalscope.pipeline.plan.memory import Held
from refusalscope.results.plan_records import PlannedMachine, PlannedMemory

_MOST_HALVINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A stage on a machine."""

    memory: PlannedMemory
    halvings: int
    fits: bool
    where: str
    n_working: int
    """Devices that work at one time."""
    read: int
    """Bytes of weights that one token of every row waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine with a model to be put on it."""

    facts: PlannedMachine
    measured: Measured
    process: int

    @property
    def memory(self) -> int | None:
        """Bytes of one device."""
        return self.facts.device_memory

    @property
    def n_devices(self) -> int:
        """Devices that the weights lie on: as few as one where they fit with half to spare."""
        if self.facts.kind == "cpu" or self.memory is None:
            return 1
        fits_one = self.measured.weights <= self.memory / 2
        return 1 if fits_one else self.facts.n_devices

    def weights(self, n_devices: int) -> int:
        """Bytes on the busiest device: whole layers, and what is outside of them on one."""
        size, itemsize = self.measured.size, self.measured.itemsize
        if n_devices == 1:
            return self.measured.weights
        of_layers = (size.n_parameters - size.n_outside) * itemsize
        most_layers = -(-size.n_layers // n_devices)
        # accelerate fills the first device with less, where the embedding lies.
        return most_layers * of_layers // size.n_layers + size.n_outside * itemsize // 2

    def placed(self, held: Held, *, can_halve: bool) -> Placed:
        """One stage.

        Args:
            can_halve: Its batches are halved where they do not fit; never on a CPU, where the
                system ends a process that is too large.
        """
        n = self.n_devices
        weights = self.weights(n)
        most = _MOST_HALVINGS if can_halve and self.facts.kind != "cpu" else 0
        halvings = 0
        while not self._fits(weights, held, n, halvings) and halvings < most:
            halvings += 1
        fits = self._fits(weights, held, n, halvings)
        return Placed(
            memory=self._memory(weights, held, n),
            halvings=halvings if fits else 0,
            fits=fits,
            where=self._where(n, halvings, fits=fits),
            n_working=1,
            read=self.measured.weights,
        )

    def streamed(self, n_bytes: int) -> Placed:
        """What is done tensor by tensor, in the memory of the host."""
        memory = _memory(weights=0, process=self.process, activations=n_bytes)
        return Placed(
            memory=memory,
            halvings=0,
            fits=True,
            where="the host, tensor by tensor",
            n_working=1,
            read=0,
        )

    def by_vllm(self, held: Held, n: int) -> Placed:
        """Completions by vLLM, which divides each layer over n devices.

        Its weights lie beside those that are spread; those of one device are moved to the host.
        """
        stays = self.weights(self.n_devices) if self.n_devices > 1 else 0
        own = self.measured.weights // n
        memory = _memory(
            weights=stays + own,
            process=self.process,
            cache=held.cache / n,
        )
        enough = n <= self.facts.n_devices
        fits = enough and (self.memory is None or memory.total <= self.memory)
        beside = ", beside the spread weights" if stays else ""
        where = f"vLLM, each layer over {n} devices{beside}"
        if not enough:
            where = f"does not fit: {n} devices are asked for, {self.facts.n_devices} are there"
        elif not fits:
            where = f"does not fit: {where}"
        return Placed(memory=memory, halvings=0, fits=fits, where=where, n_working=n, read=own)

    def _memory(self, weights: int, held: Held, n: int) -> PlannedMemory:
        """Streams and caches lie with their layers; a pass is on one device at a time."""
        return _memory(
            weights=weights,
            process=self.process,
            kept=held.kept / n,
            cache=held.cache / n,
            activations=held.activations,
            logits=held.logits,
        )

    def _fits(self, weights: int, held: Held, n: int, halvings: int) -> bool:
        if self.memory is None:
            return True
        return self._memory(weights, held.halved(halvings), n).total <= self.memory

    def _where(self, n: int, halvings: int, *, fits: bool) -> str:
        place = "the CPU" if self.facts.kind == "cpu" else "one device"
        if n > 1:
            place = f"{n} devices (--device spread)"
        if not fits:
            return f"does not fit: {place}"
        times = "once" if halvings == 1 else f"{halvings} times"
        return place if not halvings else f"{place}, batches halved {times}"


def _memory(**parts: int | float) -> PlannedMemory:
    names = ("weights", "process", "kept", "cache", "activations", "logits")
    return PlannedMemory(**{name: round(parts.get(name, 0.0)) for name in names})
