"""The checks as data: each outcome on made-up machines, and the whole list on this one."""

from __future__ import annotations

import shutil
import tomllib
from importlib import metadata, util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from barlowctl import compiled_code, doctor, processor
from barlowctl.data.beton import decoders
from barlowctl.doctor import folders, hardware, software
from barlowctl.doctor.check import Check


def test_every_check_of_this_machine_is_well_formed(tmp_path: Path) -> None:
    checks = doctor.checks(data_home=tmp_path / "data", runs=tmp_path / "runs")
    assert [check.name for check in checks] == [
        "system", "python", "torch", "torchvision", "cuda", "bf16", "timm", "loader", "jpeg", "numba",
        "numba cache", "compiler", "compiled code", "cores", "memory", "data home", "runs", "tensorboard", "wandb",
        "pillow-heif", "pydicom", "astropy", "h5py",
    ]  # fmt: skip
    for check in checks:
        assert check.value
        assert check.status in ("ok", "warn", "fail")
        assert check.advice or check.status == "ok", f"{check.name}: {check.status} without advice"
    required = ("python", "torch", "torchvision", "timm", "numba", "jpeg")
    assert {check.name: check.status for check in checks if check.name in required} == dict.fromkeys(required, "ok")


def test_the_oldest_versions_are_those_that_are_installed_with_the_package(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = dict(line.split(">=") for line in project["dependencies"])
    assert {name: ".".join(map(str, version)) for name, version in software.OLDEST.items()} == {
        name: oldest[name] for name in software.OLDEST
    }
    assert project["requires-python"] == f">={'.'.join(map(str, software.OLDEST_PYTHON))}"


def test_optional_packages_are_named_with_what_installs_them() -> None:
    absent = software.check_optional("reader", "reads scans", "no_such_module", "scans")
    assert (absent.status, absent.value) == ("ok", "not installed")
    assert absent.advice == "optional, reads scans: pip install 'barlowctl[scans]'"
    assert software.check_optional("no_such_module", "logs").advice == "optional, logs: pip install no_such_module"
    assert software.check_optional("pillow", "reads images", "PIL").value == metadata.version("pillow")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    doctor.checks(data_home=tmp_path / "data", runs=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("2.15.0+cu132", (2, 15, 0)),
        ("1.0.31", (1, 0, 31)),
        ("2.16.0a0+git12", (2, 16, 0)),
        ("3.0rc1", (3, 0)),
        ("x", ()),
    ],
)
def test_version_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert software.parsed_version(version) == numbers


@pytest.mark.parametrize(
    ("version", "status"), [("1.0.30", "warn"), ("1.0.31", "ok"), ("0.9.16", "warn"), ("2.0", "ok")]
)
def test_an_old_package_is_a_warning(monkeypatch: pytest.MonkeyPatch, version: str, status: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert software.check_package("timm").status == status


def test_a_missing_package_fails_with_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    check = software.check_package("timm")
    assert (check.status, check.value) == ("fail", "not installed")
    assert "make setup" in check.advice


@pytest.mark.parametrize("indices", [None, [0]], ids=["its import breaks", "another answer"])
def test_a_torchvision_of_another_build_is_said_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, indices: list[int] | None
) -> None:
    """torch without CUDA beside PyPI's torchvision: `import torchvision` raises this."""

    def broken(name: str) -> Check:
        raise RuntimeError(f"operator {name}::nms does not exist")

    if indices is None:
        monkeypatch.setattr(software, "check_package", broken)
    else:
        monkeypatch.setattr("torchvision.ops.nms", lambda *_: torch.tensor(indices))
    check = software.check_torchvision()
    assert check.status == "fail"
    assert check.value.endswith(f": its operators do not fit torch {torch.__version__}")
    assert "--force-reinstall torch torchvision" in check.advice


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> Check:
        raise OSError("libcudart.so.13: cannot open shared object file\nand more")

    monkeypatch.setattr(software, "check_torchvision", broken)
    by_name = {check.name: check for check in doctor.checks(data_home=tmp_path, runs=tmp_path)}
    assert by_name["torchvision"].status == "fail"
    assert by_name["torchvision"].value == "OSError: libcudart.so.13: cannot open shared object file"
    assert by_name["timm"].status == "ok"


def test_timm_that_fails_by_a_torchvision_of_another_build_has_its_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def check_package(name: str) -> Check:
        raise RuntimeError("operator torchvision::nms does not exist" if name == "timm" else "another fault")

    monkeypatch.setattr(software, "check_package", check_package)
    by_name = {check.name: check for check in doctor.checks(data_home=tmp_path, runs=tmp_path)}
    assert by_name["timm"].advice == software.SAME_INDEX
    assert "make setup" in by_name["numba"].advice


def test_the_loader_in_use_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "by_package", lambda: ({}, "simplejpeg is not installed"))
    check = software.check_loader()
    assert check.status == "warn"
    assert check.value == "plain (torchvision): simplejpeg is not installed"
    assert check.advice.endswith("slower for JPEGs: pip install simplejpeg")
    monkeypatch.setattr(metadata, "version", {"ffcv": "1.0.2", "simplejpeg": "1.9.0"}.__getitem__)
    for package in ("ffcv", "simplejpeg"):
        one = {package: SimpleNamespace(package=package)}
        monkeypatch.setattr(decoders, "by_package", lambda one=one: (one, ""))
        value = "fast (JPEGs by ffcv 1.0.2)" if package == "ffcv" else "fast (JPEGs by simplejpeg 1.9.0)"
        assert software.check_loader() == Check("loader", "ok", value)


@pytest.mark.parametrize(
    ("usable", "quota", "status", "advice"),
    [
        (8, None, "ok", ""),
        (8, 8.0, "ok", ""),
        (2, 16.0, "ok", ""),
        (64, 4.0, "warn", "OMP_NUM_THREADS=4"),
        (4, 0.5, "warn", "OMP_NUM_THREADS=1"),
    ],
)
def test_a_quota_below_the_cores_is_a_warning(usable: int, quota: float | None, status: str, advice: str) -> None:
    check = hardware.check_cores(usable, quota)
    assert check.status == status
    assert advice in check.advice


def test_little_memory_is_a_warning() -> None:
    assert hardware.check_memory(3 * 2**30).status == "warn"
    assert hardware.check_memory(3 * 2**30).value == "3.0 GiB available"
    assert hardware.check_memory(16 * 2**30).status == "ok"
    assert hardware.check_memory(None).status == "warn"


@pytest.mark.parametrize(("free", "status"), [(2**28, "fail"), (2**30, "warn"), (2**40, "ok")])
def test_disk_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**41, 0, free))
    assert folders.check_folder("data home", tmp_path / "not" / "yet", "BARLOWCTL_DATA").status == status


def test_a_folder_that_cannot_be_written_to_fails_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    check = folders.check_folder("data home", tmp_path / "file" / "below", "BARLOWCTL_DATA")
    assert check.status == "fail"
    assert str(tmp_path / "file" / "below") in check.value
    assert "BARLOWCTL_DATA" in check.advice


def test_kernels_that_cannot_be_kept_are_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert folders.check_numba_cache(tmp_path).status == "warn"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert folders.check_numba_cache(tmp_path).status == "ok"


def test_numba_s_folder_of_the_user_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numba's own choice, where it cannot write beside the modules."""
    from numba.misc.appdirs import AppDirs

    (tmp_path / "file").write_text("in the way")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check = folders.check_numba_cache(tmp_path / "file")
    assert (check.status, check.value) == ("ok", str(tmp_path / "cache" / "numba"))
    assert AppDirs(appname="numba", appauthor=False).user_cache_dir == check.value


def test_the_folder_of_compiled_code_is_named_with_its_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(compiled_code.TORCH, str(tmp_path / "code"))
    assert folders.check_compiled_code() == Check("compiled code", "ok", str(tmp_path / "code"))
    (tmp_path / "code" / "ab").mkdir(parents=True)
    (tmp_path / "code" / "ab" / "kernel.so").write_bytes(bytes(3 * 2**20))
    assert folders.check_compiled_code().value == f"{tmp_path / 'code'}: 3 MiB"


def test_compiled_code_that_does_not_last_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(compiled_code.TORCH, str(tmp_path / "file"))
    check = folders.check_compiled_code()
    assert (check.status, check.value) == ("warn", f"cannot write to {tmp_path / 'file'}")
    assert "set TORCHINDUCTOR_CACHE_DIR to a folder" in check.advice


def test_a_missing_compiler_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert software.check_compiler().status == "warn"


def test_a_compiler_that_is_named_and_not_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/g++")  # torch takes no other then
    check = software.check_compiler()
    assert (check.status, check.value) == ("warn", "no /nonexistent/g++, which CXX names")


@pytest.mark.parametrize(
    ("flags", "value", "advice"),
    [
        ({"fpu", "bf16"}, "in the CPU's hardware (bf16)", ""),
        ({"fpu"}, "emulated on this CPU", "runs whose recipe has bf16 or fp16 compute in fp32 here"),
        (set(), "this system does not tell", "a run measures whether fp32 is faster"),
    ],
)
def test_bf16_on_a_cpu(monkeypatch: pytest.MonkeyPatch, flags: set[str], value: str, advice: str) -> None:
    """macOS has no /proc/cpuinfo: nothing is said of its processor then."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(processor, "flags", lambda: frozenset(flags))
    check = hardware.check_bf16()
    assert (check.value, check.advice) == (value, advice)
