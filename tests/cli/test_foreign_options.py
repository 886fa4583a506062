"""Options of other tools lead to what does the same here."""

from __future__ import annotations

import shlex

import pytest

from barlowctl.cli.app import run as barlowctl


@pytest.mark.parametrize(
    ("typed", "led_to"),
    [
        (
            "pretrain --recipe quickstart --epochs 5 --dry-run",
            "pretrain --recipe quickstart --set train.epochs=5 --dry-run",
        ),
        ("pretrain --batch-size=64 --recipe quickstart", "pretrain --set train.batch_size=64 --recipe quickstart"),
        ("pretrain --max_epochs 5", "pretrain --set train.epochs=5"),
        ("pretrain --lr 0.1", "pretrain --set optimizer.lr=0.1"),
        ("pretrain --arch resnet18", "pretrain --set model.backbone=resnet18"),
        ("pretrain --optimizer lars", "pretrain --set optimizer.name=lars"),
        ("pretrain --output_dir there", "pretrain --out there"),
        ("embed --output-dir there", "embed --out there"),
        ("pretrain --name 'my run'", "pretrain --out 'runs/my run'"),
        ("pretrain --epochs", "pretrain --help"),
        ("pretrain --frobnicate 5", "pretrain --help"),
        ("probe --epochs 5", "probe --help"),
    ],
)
def test_an_option_of_another_tool_leads_to_its_words(
    typed: str, led_to: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They led to the help page, which has none of these words."""
    monkeypatch.delenv("BARLOWCTL_RUNS", raising=False)
    assert barlowctl(shlex.split(typed)) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == f"next: barlowctl {led_to}"
    assert ("did you mean" in error) == ("--help" not in led_to)
