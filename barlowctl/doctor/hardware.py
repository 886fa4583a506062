"""GPUs, the CPU, and memory."""

from __future__ import annotations

from pathlib import Path

from barlowctl import processor
from barlowctl.doctor.check import Check

MEMORY_WARN = 4 * 2**30  # bytes


def check_cuda() -> Check:
    """The GPUs torch can use; a GPU it cannot use is a warning that says why."""
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        value = "; ".join(f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices)
        return Check("cuda", "ok", value)
    driver = Path("/proc/driver/nvidia/version")
    if not driver.exists():
        return Check("cuda", "ok", "no NVIDIA GPU: runs on the CPU")
    line = driver.read_text().splitlines()[0].removeprefix("NVRM version: ")
    if torch.version.cuda is None:
        return Check("cuda", "warn", f"driver there ({line}), torch built without CUDA", "install PyPI's torch")
    return Check(
        "cuda",
        "warn",
        f"driver there ({line}), no usable GPU",
        f"torch wants a driver for CUDA {torch.version.cuda}: see nvidia-smi and CUDA_VISIBLE_DEVICES",
    )


def check_bf16() -> Check:
    """Whether bfloat16 arithmetic is done by the hardware."""
    import torch

    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Check("bf16", "ok", "in the GPU's hardware")
        return Check("bf16", "warn", "emulated on this GPU", "train.precision fp16 is faster here")
    flags = processor.flags()
    native = sorted(flags & processor.BF16)
    if native:
        return Check("bf16", "ok", f"in the CPU's hardware ({', '.join(native)})")
    if not flags:
        return Check("bf16", "ok", "this system does not tell", "a run measures whether fp32 is faster")
    return Check("bf16", "ok", "emulated on this CPU", "runs whose recipe has bf16 or fp16 compute in fp32 here")


def check_cores(bound: int, quota: float | None) -> Check:
    """Cores, and a container's quota below them, which makes threads wait for one another.

    Args:
        bound: cores this process may run on.
        quota: cores' worth of time granted, None for no limit.
    """
    if quota is not None and quota < bound:
        threads = max(1, int(quota))
        value = f"{bound} visible, {quota:g} granted to this container"
        return Check("cores", "warn", value, f"libraries start {bound} threads: set OMP_NUM_THREADS={threads}")
    return Check("cores", "ok", str(bound))


def check_memory(available: int | None) -> Check:
    """Memory, in bytes, that is free for a run."""
    if available is None:
        return Check("memory", "warn", "unknown on this system", "a run wants 4 GiB or more")
    value = f"{available / 2**30:.1f} GiB available"
    if available < MEMORY_WARN:
        return Check("memory", "warn", value, "smaller batches need less: --set train.batch_size=128")
    return Check("memory", "ok", value)
