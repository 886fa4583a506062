"""Networks without data: what they are, and that nothing fills them."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from barlowctl.model import without_data


class Counted(TorchDispatchMode):
    """Names of what is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "levit_128s"])
def test_a_network_without_data_is_built_and_not_filled(name: str) -> None:
    """Its tensors are those of the same network with data."""
    expected = timm.create_model(name, num_classes=0).state_dict()
    with Counted() as counted, without_data():
        state = timm.create_model(name, num_classes=0).state_dict()
    assert {key: (value.shape, value.dtype) for key, value in state.items()} == {
        key: (value.shape, value.dtype) for key, value in expected.items()
    }
    assert all(value.is_meta for value in state.values())
    assert not {"normal_", "uniform_", "clamp_", "erfinv_", "fill_", "zero_"} & set(counted.names)


def test_what_has_data_is_filled_and_changed_there_too() -> None:
    with without_data():
        numbers = torch.ones(3, device="cpu")
        numbers.mul_(2.0).add_(1.0)
        nothing = torch.empty(3)
        with pytest.raises(RuntimeError, match="broadcast"):
            nothing.add_(torch.empty(2))
    assert numbers.tolist() == [3.0, 3.0, 3.0]
    assert nothing.add_(1.0) is nothing
