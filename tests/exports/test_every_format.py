"""Every format in one folder: what fits is written, what does not is said, and a disk's error ends it."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import load_file

from barlowctl.errors import UserError
from barlowctl.exports import FORMATS, export_all, read_export
from barlowctl.exports.formats.misfit import Misfit
from barlowctl.exports.formats.onnx_file import OnnxFile
from barlowctl.exports.formats.torchvision_file import TorchvisionFile
from barlowctl.model import build_projector
from tests.exports.test_export import assert_same_features, exported, run_snippet

WITHOUT_PACKAGES = ("timm", "torchvision", "hub")
"""Formats that need no package of an extra."""


@pytest.fixture(autouse=True)
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its packages are missing: writing a graph takes seconds, and tests/exports/test_onnx.py writes some."""

    def missing(self: OnnxFile, model: Any) -> None:
        raise Misfit(f"no packages for {self.precision}", next="pip install 'barlowctl[onnx]'")

    monkeypatch.setattr(OnnxFile, "check", missing)


def test_each_format_is_written_or_says_why_not(tmp_path: Path) -> None:
    model = exported()
    folder = export_all(model, tmp_path / "all", "mine")
    written = [report.format for report in folder.reports]
    assert {*written, *folder.left_out} == FORMATS.keys()
    assert written[:3] == list(WITHOUT_PACKAGES)
    assert folder.left_out["onnx"] == "no packages for fp32"
    assert [path.name for path in tmp_path.iterdir()] == ["all"]
    names = {f"mine-{name}{FORMATS[name].suffix}" for name in written}
    assert {path.name for path in (tmp_path / "all").iterdir()} == names
    for report in folder.reports:  # the lines name the folder, not the temporary one
        if report.format in WITHOUT_PACKAGES:
            assert_same_features(model, run_snippet(report.python_line))
            assert all(path.is_file() for path in report.files)
    assert_same_features(model, timm.create_model(f"local-dir:{tmp_path / 'all' / 'mine-hub'}", pretrained=True))


def test_what_a_format_had_written_before_it_did_not_fit_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: TorchvisionFile, model: Any, path: Path) -> tuple[Path, ...]:
        path.write_bytes(b"half")
        raise Misfit("after all, no")

    monkeypatch.setattr(TorchvisionFile, "write", half)
    folder = export_all(exported(), tmp_path / "all", "mine")
    assert folder.left_out["torchvision"] == "after all, no"
    assert not list((tmp_path / "all").glob("*torchvision*"))


@pytest.mark.parametrize(
    ("error", "says"),
    [(OSError(errno.ENOSPC, "No space left on device"), "No space left"), (UserError("infinite"), "infinite")],
)
def test_any_other_error_ends_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def full(self: TorchvisionFile, model: Any, path: Path) -> tuple[Path, ...]:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(TorchvisionFile, "write", full)
    with pytest.raises(UserError, match=says):
        export_all(exported(), tmp_path / "all", "mine")
    assert list(tmp_path.iterdir()) == []


def test_no_format_that_fits_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barlowctl.exports.writer._max_abs_diff", lambda expected, features: float("inf"))
    with pytest.raises(Misfit, match="by format 'timm'"):
        export_all(exported(), tmp_path / "all", "mine")
    assert list(tmp_path.iterdir()) == []


def test_the_projector_comes_once_and_options_reach_the_formats_that_have_them(tmp_path: Path) -> None:
    model = exported()
    with pytest.raises(UserError, match="no projector"):
        export_all(model, tmp_path / "all", "mine", with_projector=True)
    model = replace(model, projector=build_projector(512, (64, 32)))
    folder = export_all(model, tmp_path / "all", "mine", with_projector=True, zero_classifier=True, precision="fp16")
    assert [path.name for path in folder.path.rglob("*projector*")] == ["mine-timm.projector.safetensors"]
    assert folder.path / "mine-timm.projector.safetensors" in folder.reports[0].files
    assert folder.left_out["onnx"] == "no packages for fp16"
    assert "fc.weight" in load_file(folder.path / "mine-torchvision.safetensors")
    assert "fc.weight" not in load_file(folder.path / "mine-timm.safetensors")
    assert_same_features(model, read_export(folder.path / "mine-hub").backbone)


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    with pytest.raises(UserError, match="all exists") as error:
        export_all(exported(), tmp_path / "all", "mine")
    assert error.value.next == f"--out {tmp_path / 'all-2'}"
    assert list((tmp_path / "all").iterdir()) == []
