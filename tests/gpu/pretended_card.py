"""A CUDA device where there is none: tensors that say they are on one, and torch's complaints of what a real one has.

Numbers are computed on the CPU. What is watched is where they would lie: an operation on tensors of two devices raises
what CUDA raises, reading one on the host is noted (or refused, as `torch.cuda.set_sync_debug_mode` does), and a CUDA
graph is a list of operations that a replay makes again on the same memory, whatever Python has come to meanwhile.

Left out: streams and events (all is done at once), other threads, compilers, several devices,
the numbers of a GPU's kernels.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

CARD = torch.device("cuda", 0)
MEETS = {"copy_", "_to_copy", "_foreach_copy_"}
"""Operations that take tensors of two devices."""
READS = {
    "_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "unique_consecutive",
    "bincount", "is_nonzero", "_linalg_eigh", "_linalg_svd", "linalg_qr", "_linalg_check_errors",
}  # fmt: skip
"""Operations for whose result the host waits."""
READERS = {"tolist", "__bool__", "__int__", "__float__", "__index__", "__contains__", "__repr__", "__format__"}
NO_CARD = ("/barlowctl/kernels/", "/barlowctl/model/cpu/", "fused_lars.py")
"""Code that takes addresses of memory to a CPU's kernels."""


class Graph:
    """What `torch.cuda.CUDAGraph` is: operations on memory that stays where it is."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Any, Any]] = {}
        self.made: set[int] = set()

    def note_written(self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Keep what an operation writes over: capturing computes nothing."""
        for place, argument in enumerate(operation._schema.arguments):
            silent = argument.name in ("running_mean", "running_var")  # of batch norm, whose schema does not say it
            if not silent and (argument.alias_info is None or not argument.alias_info.is_write):
                continue
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            for tensor in tree_leaves(value):
                if isinstance(tensor, Tensor):
                    storage = tensor.untyped_storage()
                    if storage._cdata not in self.made | self.before.keys():
                        self.before[storage._cdata] = storage, storage.clone()

    def put_back(self) -> None:
        for storage, value in self.before.values():
            storage.copy_(value)

    def replay(self) -> None:
        with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
            for operation, args, kwargs, made in self.operations:
                results = [leaf for leaf in tree_leaves(operation(*args, **kwargs)) if isinstance(leaf, Tensor)]
                for own, new in zip(made, results, strict=True):
                    if own.data_ptr() != new.data_ptr():
                        own.copy_(new)


class Card:
    """What is on the device, what the host has waited for, and the graph that is being captured."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.waits: list[str] = []
        self.refuses_waiting = False
        self.capturing: Graph | None = None
        self.backward = False  # whether autograd computes, which makes zeros of its own
        self.goes_to: bool | None = (
            None  # where the function in progress puts its result; None: where its arguments are
        )

    def has(self, tensor: Tensor) -> bool:
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage()._cdata in self.held

    def take(self, tensor: Tensor) -> None:
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
        if storage._cdata not in self.held:
            self.held[storage._cdata] = weakref.ref(storage)
            weakref.finalize(storage, self.held.pop, storage._cdata, None)

    def wait(self, what: str) -> None:
        """The host waits for the device."""
        if self.capturing is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what}")
        if self.refuses_waiting:
            raise RuntimeError(f"called a synchronizing CUDA operation: {what}")
        self.waits.append(what)


class _Operations(TorchDispatchMode):
    """Where the result of each operation lies, and whether it may be done."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self._do(operation, args, kwargs or {})

    def _do(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        card, name = self.card, operation._schema.name.partition("::")[2]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [card.has(tensor) for tensor in given]
        if any(there) and card.goes_to is None:
            self._check(name, args, given, there)
        graph = card.capturing
        if (
            graph is not None
            and given
            and not all(there)
            and any(t.ndim for t, h in zip(given, there, strict=True) if not h)
        ):
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {name} of host memory")
        if graph is not None:
            graph.note_written(operation, args, kwargs)
        known = {tensor.untyped_storage()._cdata for tensor in given}
        result = operation(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        for tensor in made:
            place = tensor.untyped_storage()._cdata
            if place not in known and (
                any(there) or (not given and card.backward) if card.goes_to is None else card.goes_to
            ):
                card.take(tensor)
            if graph is not None and place not in known:
                graph.made.add(place)
        if graph is not None:
            graph.operations.append((operation, args, kwargs, [tensor.detach() for tensor in made]))
        return result

    def _check(self, name: str, args: Any, given: Sequence[Tensor], there: Sequence[bool]) -> None:
        card = self.card
        if name in READS:
            card.wait(name)
        if name in ("index", "index_put_", "index_put", "_index_put_impl_"):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                card.wait(f"{name} by a mask")
            if not all(map(card.has, indices)):
                card.wait(f"{name} by places on the host")
            return
        if name == "repeat_interleave":
            card.wait(name)
        if all(there):
            return
        if name in MEETS:
            if not (len(args) > 2 and args[2]):
                card.wait(name)
            return
        others = [tensor for tensor, has in zip(given, there, strict=True) if not has]
        if any(tensor.ndim for tensor in others) or name in ("cat", "stack", "index_copy_", "index_select", "gather"):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in others)
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({name}; on the cpu: {shapes})"
            )


class _Functions(TorchFunctionMode):
    """What Python sees of tensors that are on the card, and how they come there."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if name == "__get__":
            return self._attribute(function, args)
        if function in (Tensor.backward, torch.autograd.backward):
            return self._backward(*args, **kwargs)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        on_card = first is not None and self.card.has(first)
        if kwargs.pop("pin_memory", False) and on_card:
            raise RuntimeError("cannot pin memory of a GPU")
        if first is not None and function in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return self._moved(function, first, args[1:], kwargs)
        if on_card:
            self._refuse(name)
        if name == "one_hot":
            return self._put(function, args, kwargs, on_card)
        if "device" in kwargs and kwargs["device"] is not None:
            return self._made(function, args, kwargs)
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            return self._put(function, args, kwargs, False)
        if name == "new_tensor" and on_card:
            self.card.wait(name)
            return self._put(function, args, kwargs, True)
        return function(*args, **kwargs)

    def _refuse(self, name: str) -> None:
        if name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if name in READERS:
            self.card.wait(name)
        if name == "data_ptr":
            frame = sys._getframe(2)
            while frame is not None and frame.f_code.co_filename.endswith(("overrides.py", "_device.py")):
                frame = frame.f_back
            if any(part in frame.f_code.co_filename for part in NO_CARD):
                raise AssertionError(f"{frame.f_code.co_filename} takes the address of a CUDA tensor to a CPU's kernel")

    def _attribute(self, function: Any, args: Any) -> Any:
        name = function.__self__.__name__
        if name not in ("device", "is_cuda", "is_cpu"):
            return function(*args)
        on_card = self.card.has(args[0])
        return {"device": CARD if on_card else args[0].device, "is_cuda": on_card, "is_cpu": not on_card}[name]

    def _backward(
        self, tensors: Any, gradients: Any = None, retain: Any = None, create: bool = False, **_: Any
    ) -> None:
        """The engine's own call: torch's functions around it would leave this mode."""
        roots = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
        given = [None] * len(roots) if gradients is None else tree_leaves(gradients)
        self.card.backward = self.card.has(roots[0])
        try:
            with self:
                firsts = tuple(torch.ones_like(t) if g is None else g for t, g in zip(roots, given, strict=True))
                _engine_run_backward(roots, firsts, bool(retain) or create, create, (), True, True)
        finally:
            self.card.backward = False

    def _put(self, function: Any, args: Any, kwargs: Any, on_card: bool) -> Any:
        """The result of a function, on the card or not, whatever it does inside."""
        before, self.card.goes_to = self.card.goes_to, on_card
        try:
            result = function(*args, **kwargs)
        finally:
            self.card.goes_to = before
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and on_card:
                self.card.take(leaf)
        return result

    def _made(self, function: Any, args: Any, kwargs: Any) -> Any:
        device = torch.device(kwargs.pop("device")) if not isinstance(kwargs["device"], int) else CARD
        name, on_card = function.__name__, device.type == "cuda"
        given = args[0] if args else None
        if name == "as_tensor" and isinstance(given, Tensor):
            return self._moved(Tensor.to, given, (device,), kwargs)
        if name in ("tensor", "as_tensor") and on_card:
            self.card.wait(f"torch.{name} of a value of the host")
        drawn = kwargs.get("generator")
        if drawn is not None and on_card is not isinstance(drawn, Generator):
            raise RuntimeError(f"Expected a '{device.type}' device type for generator")
        return self._put(function, args, {**kwargs, "device": torch.device("cpu") if on_card else device}, on_card)

    def _moved(self, function: Any, tensor: Tensor, args: Any, kwargs: Any) -> Tensor:
        on_card = self.card.has(tensor)
        if function is Tensor.cpu:
            args, kwargs = (torch.device("cpu"),), kwargs
        elif function is Tensor.cuda:
            args, kwargs = (CARD,), {"non_blocking": kwargs.get("non_blocking", False)}
        if args and isinstance(args[0], Tensor):
            there, dtype = self.card.has(args[0]), args[0].dtype
            options = {"non_blocking": kwargs.get("non_blocking", False), "copy": kwargs.get("copy", False)}
            layout = None
        else:
            copies = kwargs.pop("copy", False)
            device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
            there = on_card if device is None else device.type == "cuda"
            options = {"non_blocking": non_blocking, "copy": copies}
        if there is not on_card:
            if not options["non_blocking"] or self.card.capturing is not None:
                self.card.wait("a copy from one device to another")
            options["copy"] = True
        if layout is not None:
            options["memory_format"] = layout
        return self._put(Tensor.to, (tensor, dtype or tensor.dtype), options, there)


class Generator(torch.Generator):
    """A generator of the card, which draws on the CPU."""

    def __new__(cls, device: Any = "cpu") -> Any:
        made = super().__new__(cls, "cpu")
        return made if torch.device(device).type == "cuda" else torch._C.Generator("cpu")

    def graphsafe_get_state(self) -> Tensor:
        return self.get_state()


class _Default:
    """The card's own generator: the CPU's."""

    def graphsafe_set_state(self, state: Tensor) -> None:
        torch.default_generator.set_state(state)

    def get_state(self) -> Tensor:
        return torch.default_generator.get_state()


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is under way."""

    def _nothing(self, *_: Any) -> None:
        """All is done."""

    record = wait = synchronize = wait_stream = wait_event = _nothing

    def is_capturing(self) -> bool:
        return torch.cuda.is_current_stream_capturing()


def _of_torch_cuda(card: Card) -> dict[str, Any]:
    """What stands in for names of `torch.cuda`."""
    only, properties = (
        _Event(),
        {"name": "a pretended card", "total_memory": 140 << 30, "uuid": "0", "major": 9, "minor": 0},
    )
    properties |= {"multi_processor_count": 132, "gcnArchName": ""}

    @contextmanager
    def nothing(*_: Any, **__: Any) -> Iterator[None]:
        yield

    @contextmanager
    def graph(made: Graph, **_: Any) -> Iterator[None]:
        random = torch.get_rng_state()
        card.capturing = made
        try:
            yield
        finally:
            card.capturing = None
            with torch._C.DisableTorchFunction(), torch.no_grad(), _disable_current_modes():
                made.put_back()
            torch.set_rng_state(random)

    def set_sync_debug_mode(mode: str) -> None:
        card.refuses_waiting = mode == "error"

    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "Event": _Event,
        "Stream": _Event,
        "stream": nothing,
        "device": nothing,
        "current_stream": lambda device=None: only,
        "default_stream": lambda device=None: only,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "manual_seed": lambda seed: None,
        "default_generators": (_Default(),),
        "CUDAGraph": Graph,
        "graph": graph,
        "is_current_stream_capturing": lambda: card.capturing is not None,
        "set_sync_debug_mode": set_sync_debug_mode,
        "is_bf16_supported": lambda including_emulation=True: True,
        "mem_get_info": lambda device=None: (140 << 30, 140 << 30),
        "get_device_properties": lambda device=None: SimpleNamespace(**properties),
        "get_device_name": lambda device=None: properties["name"],
    }


@contextmanager
def pretended_card() -> Iterator[Card]:
    """Inside, `torch.cuda` is that of a machine with one device."""
    card, autocast = Card(), torch.autocast

    def autocast_on_cpu(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return autocast("cpu", *args, **kwargs)

    by_place = torch._C._group_tensors_by_device_and_dtype

    def groups(lists: Any, with_indices: bool = False) -> dict[Any, Any]:
        made = by_place(lists, with_indices)
        firsts = {key: next((t for row in value[0] for t in row if t is not None), None) for key, value in made.items()}
        return {
            (CARD if firsts[key] is not None and card.has(firsts[key]) else key[0], key[1]): value
            for key, value in made.items()
        }

    with pytest.MonkeyPatch.context() as patch, _Operations(card), _Functions(card):
        for name, value in _of_torch_cuda(card).items():
            patch.setattr(torch.cuda, name, value)
        patch.setitem(checkpoint._allowed_determinism_checks_to_fns, "default", lambda x: (x.shape, x.dtype))
        patch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
        patch.setattr(torch.Tensor, "pin_memory", lambda self: self)  # of other threads, too
        patch.setattr(torch, "autocast", autocast_on_cpu)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch.accelerator, "current_stream", torch.cuda.current_stream)
        patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", groups)
        yield card
