"""Run by test_fused.py in a process of its own: compiles the kernels for a CUDA architecture, and prints their names.

python -m tests.data.views.compiled_kernels 90
"""

from __future__ import annotations

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from barlowctl.data.views import chain_kernels, fused

CONSTANTS = {"CHANNELS": 3, "BLOCKS": 64, "BLOCK": fused.BLOCK}
TYPES = {"pixels": "*u8", "done": "*u8", "images": "*i32", "threshold": "fp32"}
FLOATS = {"table", "sums", "waiting", "half", "weights"}


def kind(argument: str) -> str:
    """The type that `fused` gives an argument of this name."""
    if argument in CONSTANTS:
        return "constexpr"
    return TYPES.get(argument, "*fp32" if argument in FLOATS else "i32")


def main(architecture: int) -> None:
    options = {key: value for key, value in fused.OPTIONS.items() if key != "BLOCK"}
    for name in ("sum_gray", "distort", "blur_rows", "blur_columns"):
        kernel = getattr(chain_kernels, name)
        signature = {argument: kind(argument) for argument in kernel.arg_names}
        constants = {argument: CONSTANTS[argument] for argument in kernel.arg_names if argument in CONSTANTS}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
        assert made.asm["cubin"]
        print(name)


if __name__ == "__main__":
    main(int(sys.argv[1]))
