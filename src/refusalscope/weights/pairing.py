"""Which tensors of two checkpoints belong together, whatever form tools have given them.

Sharding, dtype, prefixes of names, buffers, tied tensors stored once or twice, a padded vocabulary,
fused and separate tensors: none of that is an edit. It is named in notes and compared away.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from refusalscope.weights.architecture_names import ArchitectureNames
from refusalscope.weights.checkpoint import Checkpoint, StoredTensor
from refusalscope.weights.checkpoint_plan import CheckpointPlan
from refusalscope.weights.fused_forms import from_parts, from_whole, fused_names
from refusalscope.weights.name_forms import is_buffer
from refusalscope.weights.stored_numbers import StoredNumbers, are_same_bytes, part_of, whole
from refusalscope.weights.tensor_pair import TensorPair


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The tensors of two checkpoints, each with the one that it is to be compared with."""

    pairs: tuple[TensorPair, ...]
    notes: tuple[str, ...]
    """What differs in form alone, and what was not compared."""
    untied: str | None
    """The unembedding that is the embedding in the base and is not in the edited checkpoint."""


def pair_tensors(
    base: Checkpoint,
    edited: Checkpoint,
    plan: CheckpointPlan,
    names: ArchitectureNames,
    names_of_edited: Callable[[], ArchitectureNames | None],
) -> Pairing | str:
    """Pair the tensors; or say why they cannot be paired.

    Args:
        base: With the names of the architecture.
        edited: With those of `base`.
        names: Of the base's architecture.
        names_of_edited: Those of the edited checkpoint's own config; asked for where they matter.
    """
    work = _Work(base=base, edited=edited, plan=plan, names=names, names_of_edited=names_of_edited)
    why = work.pair_base() or work.pair_rest()
    if why is not None:
        return why
    work.drop_copies()
    return Pairing(pairs=tuple(work.pairs.values()), notes=tuple(work.notes()), untied=work.untied)


@dataclass(slots=True, kw_only=True)
class _Work:
    """A pairing under way."""

    base: Checkpoint
    edited: Checkpoint
    plan: CheckpointPlan
    names: ArchitectureNames
    names_of_edited: Callable[[], ArchitectureNames | None]
    pairs: dict[str, TensorPair] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    buffers: set[str] = field(default_factory=set)
    in_parts: list[str] = field(default_factory=list)
    only_base: list[str] = field(default_factory=list)
    only_edited: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    untied: str | None = None

    def pair_base(self) -> str | None:
        """Find every tensor of the base in the edited checkpoint."""
        fused = fused_names(self.edited)
        for name, stored in self.base.tensors.items():
            if is_buffer(name, stored, self.names.stored):
                self.buffers.add(name)
                continue
            new = self._counterpart(name, stored, fused)
            if new is not None:
                if why := self._pair(name, whole(self.base.folder, stored), new):
                    return why
            elif name in self.names.stored or name == self.names.unembedding:
                return f"{name} of {self.base.folder} is not in {self.edited.folder}"
            else:
                self.only_base.append(name)
        return None

    def pair_rest(self) -> str | None:
        """Pair what only the edited checkpoint stores."""
        for name, stored in self.edited.tensors.items():
            if name in self.pairs or name in self.used:
                continue
            if is_buffer(name, stored, self.names.stored):
                self.buffers.add(name)
                continue
            new, weight = whole(self.edited.folder, stored), name.removesuffix("bias") + "weight"
            shared = self.plan.copies.get(name)
            if shared is not None:
                old = whole(self.base.folder, self.base.tensors[shared])
                if why := self._pair(name, old, new):
                    return why
            elif name.endswith(".bias") and weight in self.pairs and len(stored.shape) == 1:
                self._pair_with_zero(name, new, weight)
            else:
                self.only_edited.append(name)
        return self._why_not()

    def drop_copies(self) -> None:
        """Count what is the same under two names on both sides once."""
        shared = dict(self.plan.copies)
        if self.names.unembedding is not None:
            shared.setdefault(self.names.unembedding, self.names.embedding)
        for copy, first in shared.items():
            pair, own = self.pairs.get(copy), self.pairs.get(first)
            if pair is None or own is None or pair.base is None or own.base is None:
                continue
            if not are_same_bytes(pair.base, own.base):
                continue
            if are_same_bytes(pair.edited, own.edited):
                del self.pairs[copy]
                self.twice.append(copy)
            elif copy == self.names.unembedding:
                self.untied = copy

    def notes(self) -> list[str]:
        """One sentence a difference in form."""
        old, new = self.base.folder, self.edited.folder
        found: list[str] = []
        if len(self.base.shards) != len(self.edited.shards):
            found.append(
                f"the tensors are in {len(self.base.shards)} files in {old}, "
                f"{len(self.edited.shards)} in {new}"
            )
        mixed = sorted(
            {" and ".join(sorted(p.dtypes)) for p in self.pairs.values() if len(p.dtypes) > 1}
        )
        if mixed:
            found.append(f"stored as {'; '.join(mixed)}: both were rounded to the coarser")
        if self.buffers:
            found.append(_some(sorted(self.buffers), "buffer", "not compared"))
        for names, folder in ((self.only_base, old), (self.only_edited, new)):
            if names:
                what = f"only in {folder} and no part of the model, not compared"
                found.append(_some(names, "tensor", what))
        if self.twice:
            found.append(_some(self.twice, "tied tensor", "counted once"))
        if self.in_parts:
            found.append(_some(self.in_parts, "tensor", "fused in one, in parts in the other"))
        common = self._vocabulary()
        if common is not None:
            sizes = [c.tensors[self.names.embedding].shape[0] for c in (self.base, self.edited)]
            found.append(
                f"the vocabulary has {sizes[0]} rows in {old}, {sizes[1]} in {new}: the first "
                f"{common} were compared"
            )
        return found

    def _counterpart(
        self, name: str, stored: StoredTensor, fused: dict[str, str]
    ) -> StoredNumbers | None:
        folder = self.edited.folder
        if name in self.edited.tensors:
            return whole(folder, self.edited.tensors[name])
        parts = from_parts(stored, self.edited)
        if parts is not None:
            self.used.update(parts[1])
            self.in_parts.append(name)
            return parts[0]
        part = from_whole(name, self.base, fused, self.edited)
        if part is not None:
            self.used.add(fused[name])
            self.in_parts.append(name)
            return part
        shared = self.plan.copies.get(name)
        if shared is None and name == self.names.unembedding:
            shared = self.names.embedding
        if shared is None or shared not in self.edited.tensors:
            return None
        own = self.names_of_edited()
        return whole(folder, self.edited.tensors[shared]) if own and own.is_tied else None

    def _pair(self, name: str, old: StoredNumbers, new: StoredNumbers) -> str | None:
        common = self._vocabulary() if name in self._vocabulary_names() else None
        if common is not None:
            old, new = (
                part_of(n.folder, n.pieces[0], 0, (common, *n.shape[1:])) for n in (old, new)
            )
        if old.shape != new.shape:
            return f"{name} has shape {old.shape} in {self.base.folder}, {new.shape} in the other"
        axes = {planned.part.name: planned.part.axis for planned in self.plan.parts}
        self.pairs[name] = TensorPair(name=name, base=old, edited=new, writer_axis=axes.get(name))
        return None

    def _pair_with_zero(self, name: str, new: StoredNumbers, weight: str) -> None:
        writes = self.pairs[weight].writer_axis is not None
        self.pairs[name] = TensorPair(
            name=name, base=None, edited=new, writer_axis=0 if writes else None
        )

    def _why_not(self) -> str | None:
        """Whether the model of the edited checkpoint has tensors that the base has not."""
        if not self.only_edited:
            return None
        unmerged = [name for name in self.only_edited if ".lora_" in name]
        if unmerged:
            return f"{self.edited.folder} holds an adapter that is not merged ({unmerged[0]})"
        own = self.names_of_edited()
        odd = [name for name in self.only_edited if own is None or name in own.stored]
        return f"{odd[0]} of {self.edited.folder} is not in {self.base.folder}" if odd else None

    def _vocabulary_names(self) -> tuple[str, ...]:
        head = self.names.unembedding
        return (
            self.names.embedding,
            *((head, f"{head.removesuffix('weight')}bias") if head else ()),
        )

    def _vocabulary(self) -> int | None:
        """How many rows the vocabularies have in common; None where they are of one size.

        None too where the tensors of one checkpoint do not agree about it.
        """
        sizes = [
            {c.tensors[name].shape[:1] for name in self._vocabulary_names() if name in c.tensors}
            for c in (self.base, self.edited)
        ]
        if any(len(own) != 1 for own in sizes) or sizes[0] == sizes[1]:
            return None
        return min(rows for own in sizes for (rows,) in own)


def _some(names: list[str], noun: str, what: str) -> str:
    count = f"1 {noun}" if len(names) == 1 else f"{len(names)} {noun}s"
    return f"{count} ({names[0]}{', ...' if len(names) > 1 else ''}): {what}"
