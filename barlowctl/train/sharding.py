"""A backbone that is divided among ranks: torch's FSDP2.

A rank holds its rows (of dimension 0) of every parameter of the backbone, of its gradient and of what the optimizer
keeps for it; a block's whole parameters are there for as long as it computes. Heads stay whole on every rank, and so do
parameters that have no rows (a number by itself).

The optimizer works on a rank's rows as plain tensors, which share their memory. So it must do to each number what does
not depend on the others, as SGD and AdamW do. What is saved is whole: a checkpoint is that of any run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.train.gradient_sync import GradientScale

UNCALLED = (nn.ModuleList, nn.ModuleDict)
"""Lists of modules, which somebody else calls one by one."""


class Sharding:
    """Divides the backbone of a method, and the optimizer's state of it; from then on `optimizer` has the rows.

    Args:
        method: whole, the same on every rank. optimizer: over its parameters, whole too.
        scale: of the gradient (see `GradientSync`).
    """

    def __init__(
        self,
        method: nn.Module,
        backbone: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        ranks: Ranks,
        scale: GradientScale = "exact",
    ) -> None:
        from torch.distributed.device_mesh import init_device_mesh  # all of it takes a second
        from torch.distributed.fsdp import FSDPModule, fully_shard
        from torch.distributed.tensor import DTensor

        self.method, self.optimizer, self.ranks, self.device = method, optimizer, ranks, device
        whole = {name: p for name, p in backbone.named_parameters() if p.ndim > 0}
        numbers = {p for p in backbone.parameters() if p.ndim == 0}
        for p in whole.values():
            p.data = p.data.contiguous()  # FSDP2 takes no other memory format
        with ranks.collective():
            mesh = init_device_mesh(device.type, (ranks.size,))
        for module in (*blocks(backbone), backbone):
            module.register_forward_hook(_no_view)
            divided: FSDPModule = fully_shard(module, mesh=mesh, ignored_params=numbers)
            divided.set_gradient_divide_factor(1.0 if scale == "exact" else float(ranks.size))
            divided.set_force_sum_reduction_for_comms(True)
        self._divided: dict[tuple[bool, ...], Tensor] = {}  # of the newest step's gradients: whose parameter is divided
        self._rows: dict[Any, nn.Parameter] = {}  # of each parameter, which is a DTensor now
        rows_of: dict[Tensor, nn.Parameter] = {}
        for name, p in backbone.named_parameters():
            if name not in whole:
                continue
            assert isinstance(p, DTensor)
            local: Tensor = p.to_local().detach()
            rows = nn.Parameter(local, requires_grad=p.requires_grad)
            self._rows[p], rows_of[whole[name]] = rows, rows
        self._divide_state(rows_of)

    def _divide_state(self, rows_of: dict[Tensor, nn.Parameter]) -> None:
        """Let the optimizer have rows for whole parameters, and keep the rows of its state."""
        for group in self.optimizer.param_groups:
            group["params"] = [rows_of.get(p, p) for p in group["params"]]
        for p, rows in rows_of.items():
            if (state := self.optimizer.state.pop(p, None)) is not None:
                own = slice(sum(self._shares(len(p))[: self.ranks.rank]), None)
                self.optimizer.state[rows] = {
                    name: value[own][: len(rows)].clone(memory_format=torch.contiguous_format)
                    if _is_per_number(value, p)
                    else value
                    for name, value in state.items()
                }

    def _shares(self, rows: int) -> list[int]:
        """How many rows of a parameter each rank has: as `torch.chunk` cuts them."""
        chunk = -(-rows // self.ranks.size)
        return [max(0, min(chunk, rows - rank * chunk)) for rank in range(self.ranks.size)]

    def whole(self) -> list[nn.Parameter]:
        """The parameters that every rank has whole, of those that are trained: those of the heads."""
        return [p for p in self.method.parameters() if p.requires_grad and p not in self._rows]

    @contextmanager
    def taking_gradients(self) -> Iterator[None]:
        """A context around a step's passes: the optimizer is given the gradient of its rows that they leave.

        Raises:
            RankLost: an exchange of FSDP2's failed.
            UserError: the backbone computes with parameters of a block that it does not call (HRNet does).
        """
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error):  # gloo's have no class
                raise self.ranks.lost(error) from error
            if "mixed torch.Tensor and DTensor" not in str(error):
                raise
            raise UserError(
                "train.shard is true, and this backbone computes with weights of blocks that it does not call: they "
                "cannot be gathered in time",
                allowed="another backbone, or one that is whole on every device",
                next="--set train.shard=false",
            ) from error
        for p, rows in self._rows.items():
            rows.grad = None if p.grad is None else p.grad.to_local()

    def rows_of(self, parameter: nn.Parameter) -> nn.Parameter:
        """What the optimizer has of a parameter: its rows on this rank, or itself where it is not divided."""
        return self._rows.get(parameter, parameter)

    def norms_of_all(self, parameters: Sequence[Tensor], norms: Tensor) -> Tensor:
        """Norms of whole gradients, float64, from those of this rank's rows. Every rank makes this call."""
        own = set(self._rows.values())
        divided = tuple(p in own for p in parameters)
        if divided not in self._divided:  # a copy from the host waits for the device: not in each step
            self._divided = {divided: torch.tensor(divided, device=norms.device)}
        squares = norms.double().square()
        return torch.where(self._divided[divided], self.ranks.add(squares.clone()), squares).sqrt()

    def model_state(self) -> dict[str, Tensor]:
        """The method's whole state, on the host of rank 0; empty elsewhere. Every rank makes this call."""
        return dict(self._gathered(self.method.state_dict()))

    def _gathered(self, state: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
        for name, value in state.items():
            with self.ranks.collective():
                whole = value.full_tensor() if hasattr(value, "full_tensor") else value
            if self.ranks.first:
                yield name, whole.detach().cpu()

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state_dict as of whole parameters, on the host of rank 0. Every rank makes this call."""
        state = self.optimizer.state_dict()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        rows_of = {rows: len(p) for p, rows in self._rows.items()}
        whole: dict[int, dict[str, Any]] = {}
        for number, values in state["state"].items():
            rows = parameters[number]
            whole[number] = dict(values)
            for name, value in values.items():
                if rows in rows_of and _is_per_number(value, rows):
                    gathered = self.ranks.gather(value, self._shares(rows_of[rows]))
                    whole[number][name] = gathered.cpu() if self.ranks.first else None
        return {**state, "state": whole}


def blocks(backbone: nn.Module) -> list[nn.Module]:
    """What a backbone repeats: modules of one class that follow one another, such as a transformer's blocks.

    The outermost ones that are called. None is there in a network that repeats nothing: it is gathered as a whole.
    """
    children = list(backbone.children())
    alike = len(children) > 1 and len({type(child) for child in children}) == 1
    lists = isinstance(backbone, nn.Sequential | nn.ModuleList)
    if lists and alike and next(backbone.parameters(), None) is not None and not isinstance(children[0], UNCALLED):
        return children
    return [block for child in children for block in blocks(child)]


def _no_view(module: nn.Module, inputs: Any, output: Any) -> Any:
    """What FSDP2 takes of a module: it hangs its gathering in the backward pass on a tensor that is no view."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def _is_per_number(value: Any, p: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == p.shape
