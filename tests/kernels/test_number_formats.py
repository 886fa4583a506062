"""Numbers between memory and kernels: rounded as torch rounds them, and what is no number stays so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.kernel_cache import njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.number_formats import LIKE, narrow, wide

BF16 = LIKE[torch.bfloat16]
WORDS = {
    "halfway to an even one": 0x3F808000,
    "halfway to an odd one": 0x3F818000,
    "just above": 0x3F808001,
    "the largest": 0x7F7FFFFF,
    "the smallest": 0x00000001,
    "-0": 0x80000000,
    "infinity": 0x7F800000,
}
NO_NUMBERS = {
    "the processor's": 0x7FC00000,
    "the processor's, negative": 0xFFC00000,
    "CUDA's": 0x7FFFFFFF,
    "all bits": 0xFFFFFFFF,
    "the lowest bit alone": 0x7F800001,
    "low bits alone": 0xFF807FFF,
}


@njit(**KERNEL)
def narrowed(values, out):
    """Each number as bfloat16's bits."""
    for number in range(len(values)):
        out[number] = narrow(values[number], BF16)


@njit(**KERNEL)
def widened(values, out):
    """Each of bfloat16's bits as a number."""
    for number in range(len(values)):
        out[number] = wide(values[number])


def rounded(words: list[int]) -> np.ndarray:
    """float32 of these bits, in bfloat16's bits: enough of them for vectors, and some more."""
    values = np.array(words * 37, dtype=np.uint32).view(np.float32)
    out = np.empty(len(values), dtype=np.uint16)
    narrowed(values, out)
    return out.reshape(37, len(words))


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_numbers_are_rounded_as_torch_rounds_them(word: int) -> None:
    truth = torch.tensor([word], dtype=torch.int64).to(torch.int32).view(torch.float32).to(torch.bfloat16)
    assert {*rounded([word]).flat} == {int(truth.view(torch.int16)) & 0xFFFF}


@pytest.mark.parametrize("word", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_stays_so(word: int) -> None:
    assert np.isnan(np.array([word], dtype=np.uint32).view(np.float32)).all()
    bits = rounded([word])
    assert torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).isnan().all()
    back = np.empty(bits.size, dtype=np.float32)
    widened(bits.reshape(-1), back)
    assert np.isnan(back).all()


def test_every_number_of_bfloat16_comes_back() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    values, out = np.empty(len(bits), dtype=np.float32), np.empty_like(bits)
    widened(bits, values)
    narrowed(values, out)
    numbers = ~np.isnan(values)
    assert (out[numbers] == bits[numbers]).all()
    assert (out[~numbers] == bits[~numbers] | 0x40).all()
