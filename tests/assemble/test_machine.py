"""What a machine can compute in."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble.machine import usable_precision


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "used"), [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")]
)
def test_bf16_where_a_cpu_has_instructions_for_it(
    avx512_bf16: bool, amx: bool, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    cpu = torch.device("cpu")
    assert usable_precision("bf16", cpu) == used
    assert (usable_precision("fp16", cpu), usable_precision("fp32", cpu)) == ("fp32", "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_computes_in_what_the_recipe_says(precision: str) -> None:
    assert usable_precision(precision, torch.device("cuda")) == precision
