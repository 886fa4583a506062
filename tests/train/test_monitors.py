"""Monitors: refused before a run begins where they cannot work, and never the end of one."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from barlowctl.errors import UserError
from barlowctl.train.events import CheckpointSaved, Event, RunFinished, StepDone
from barlowctl.train.monitors import TensorBoard, Wandb, guarded


def events(start: int, stop: int) -> list[StepDone]:
    return [StepDone(step, 0, step % 2 == 0, {"loss": 1.0 / step}) for step in range(start, stop)]


@pytest.mark.parametrize("last", [RunFinished(Path(), {}), CheckpointSaved(4, Path())])
def test_tensorboard_has_the_scalars_of_a_run_that_ends_or_is_stopped(tmp_path: Path, last: Event) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard().open(tmp_path, 0)
    for event in [*events(1, 5), last]:
        sink(event)
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert [scalar.step for scalar in accumulator.Scalars("step/loss")] == [2, 4]


def test_tensorboard_of_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    """Killed after step 6, resumed from the checkpoint of step 4, to another loss."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, factor in ((0, 1.0), (4, 2.0)):
        sink = TensorBoard().open(tmp_path, start)
        for step in (2, 4, 6) if start == 0 else (6, 8):
            sink(StepDone(step, 0, True, {"loss": factor * step}))
        sink(RunFinished(Path(), {}))
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert [(scalar.step, scalar.value) for scalar in accumulator.Scalars("step/loss")] == [
        (2, 2),
        (4, 4),
        (6, 12),
        (8, 16),
    ]


@pytest.mark.parametrize("monitor", [TensorBoard(), Wandb({})])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, monitor: TensorBoard | Wandb
) -> None:
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UserError, match="which is not installed") as caught:
        monitor.check()
    assert "pip install 'barlowctl[" in (caught.value.next or "")


@pytest.mark.parametrize(("monitor", "imported"), [(TensorBoard(), "torch.utils.tensorboard"), (Wandb({}), "wandb")])
@pytest.mark.parametrize("error", ["AttributeError('np.float_ was removed')", "SystemExit(1)"])
def test_a_package_that_does_not_work_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: TensorBoard | Wandb, imported: str, error: str
) -> None:
    """As after an update of another package: the module is there, and cannot be imported."""
    name = imported.rpartition(".")[2]
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {error}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in [module for module in sys.modules if module.split(".")[0] == name or module.startswith(imported)]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UserError, match="is installed and does not work") as caught:
        monitor.check()
    assert error.partition("(")[0] in caught.value.message
    assert caught.value.next == f"pip install --force-reinstall {name}\nwithout --{name}"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SystemExit(1)])
def test_a_monitor_that_fails_is_said_once_and_left_out(error: BaseException) -> None:
    notices: list[str] = []
    calls: list[Event] = []

    def full(event: Event) -> None:
        calls.append(event)
        raise error

    sink = guarded(full, "TensorBoard", notices.append)
    for event in events(1, 5):
        sink(event)
    assert len(calls) == 1
    [text] = notices
    assert text.startswith("TensorBoard is not written any more")
    assert str(error) in text


class Client(types.ModuleType):
    """A stand-in for the package wandb, so that no account is needed."""

    def __init__(self, refuse: Callable[[], None] = lambda: None) -> None:
        super().__init__("wandb")
        self.refuse, self.started, self.logged = refuse, list[dict[str, Any]](), list[int]()

    def init(self, **values: Any) -> Client:
        self.refuse()
        self.started.append(values)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append(step)

    def finish(self) -> None:
        self.logged.append(-1)


def test_a_resumed_run_goes_on_in_the_same_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setitem(sys.modules, "wandb", client)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    for event in events(1, 5):
        Wandb({"a": 1}).open(tmp_path, 0)(event)
    monkeypatch.setenv("WANDB_PROJECT", "another")  # of the shell that resumes
    sink = Wandb({"a": 1}).open(tmp_path, 0)
    sink(RunFinished(tmp_path, {}))
    first, *_, resumed = client.started
    assert first["id"] == resumed["id"] == json.loads((tmp_path / "wandb.json").read_text())["id"]
    assert resumed["resume"] == "allow"
    assert {started["project"] for started in client.started} == {"mine"}
    assert client.logged == [2, 4, -1]
    other = tmp_path / "other"
    other.mkdir()
    Wandb({}).open(other, 0)
    assert client.started[-1]["id"] != first["id"]


def test_wandb_without_a_login_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("No API key configured.\nMore lines of advice.")

    monkeypatch.setitem(sys.modules, "wandb", Client(refuse))
    with pytest.raises(UserError, match=r"W&B does not take the run: RuntimeError: No API key configured\.$") as caught:
        Wandb({}).open(tmp_path, 0)
    assert "wandb login" in (caught.value.next or "").splitlines()
    assert list(tmp_path.iterdir()) == []
