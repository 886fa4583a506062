"""Weights to start from, by their name: what can only be a path is looked for before torch is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.runs.subjects import refuse_other_paths
from barlowctl.runs.weights import named_from_anywhere, refuse_missing, refuse_no_repository


@pytest.mark.parametrize("name", ["no/such.pth", "x.pth", "x.safetensors", "/nowhere/at/all", "./x", "../x", "x.onnx"])
def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for refuse in (refuse_missing, refuse_other_paths):
        with pytest.raises(UserError, match=f"'{name}' does not exist") as refused:
            refuse(name)
        assert refused.value.next == "barlowctl runs list"


@pytest.mark.parametrize("name", ["resnet50", "resnet50.a1_in1k", "hf-hub:timm/a.b", "https://x/y.pth", "a"])
def test_what_may_be_something_else_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_missing(name)


@pytest.mark.parametrize("rest", ["", "/", "a/", "/b", "a/b/c", "a/b@", "@main", " ", "a b/c"])
@pytest.mark.parametrize("begin", ["hf-hub:", "hf_hub:"])
def test_a_name_on_the_hub_names_a_repository(begin: str, rest: str) -> None:
    for refuse in (refuse_missing, refuse_other_paths):
        with pytest.raises(UserError, match=re.escape(f"'{begin}{rest}' names no repository on the Hugging Face Hub")):
            refuse(f"{begin}{rest}")
    assert all(
        refuse_no_repository(f"{begin}{name}") for name in ("a", "a/b", "a-b/c_d.e", "a/b@main", "a/b@refs/pr/1")
    )
    assert not refuse_no_repository("resnet50.a1_in1k")


def test_a_name_as_on_the_hubs_page_leads_to_how_it_is_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "timm/resnet18.a1_in1k"
    assert named_from_anywhere(name) == name
    message = f"'{name}' does not exist; a model on the Hugging Face Hub is named hf-hub:{name}"
    for refuse in (refuse_missing, refuse_other_paths):
        with pytest.raises(UserError, match=message):
            refuse(name)
    refuse_missing(f"hf-hub:{name}")
    with pytest.raises(UserError, match=message) as refused:
        refuse_missing(name)
    assert refused.value.next == f"--init hf-hub:{name}"
    Path(name).mkdir(parents=True)
    refuse_missing(name)
    assert named_from_anywhere(f"{name}/x") == str(tmp_path / name / "x")


def test_what_is_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_RUNS", "home")
    for folder in ("home/night.pth", "folder/of.pth"):
        Path(folder).mkdir(parents=True)
    Path("x.pth").touch()
    for name in ("night.pth", "folder/of.pth", "x.pth"):
        refuse_missing(name)
    Path("x.pth").rename("y.pth")
    Path("x.pth").symlink_to("z")
    with pytest.raises(UserError, match="leads nowhere"):
        refuse_missing("x.pth")
    assert named_from_anywhere("y.pth") == str(tmp_path / "y.pth")
    assert named_from_anywhere("resnet50.a1_in1k") == "resnet50.a1_in1k"


def test_pretrain_refuses_them_without_torch(tmp_path: Path) -> None:
    command = ["pretrain", "--recipe", "quickstart", "--init", "no/such.pth"]
    program = f"import sys; from barlowctl.cli import app; print(app.run({command}), 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert printed.stdout.strip() == "2 False"
    assert "such.pth' does not exist" in printed.stderr
