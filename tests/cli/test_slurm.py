"""A run as a Slurm job: the script is run for real, with small stand-ins for Slurm's programs."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.train import checkpoint
from barlowctl.train.saver import Saver

Captured = pytest.CaptureFixture[str]

PROGRAMS = {
    "sbatch": '#!/bin/bash\ncp "$2" "$FAKE/submitted"\necho "77;cluster"\n',
    "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$FAKE/requeued"; fi\n',
    # Slurm's way with tasks: each its number, the worst exit code of all.
    "srun": """#!/bin/bash
shift
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & echo $! >> "$FAKE/tasks"
done
worst=0
for task in $(cat "$FAKE/tasks"); do wait "$task"; code=$?; [ $code -gt $worst ] && worst=$code; done
rm "$FAKE/tasks"
exit $worst
""",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins first on the PATH."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    for name, value in {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "here"}.items():
        monkeypatch.setenv(name, value)
    return folder


def job(recipe: Path, *arguments: str) -> int:
    return barlowctl(["pretrain", "--recipe", str(recipe), "--processes", "1", *arguments])


def start_job(script: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(["bash", str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_job_that_is_warned_queues_itself_again_and_its_command_goes_on(
    recipe: Path, tmp_path: Path, slurm: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the script starts is noted, and run in this process; the slow test below has it as it is."""
    python = slurm / "a python"
    python.write_text(
        '#!/bin/bash\nprintf "%s\\0" "$@" > "$FAKE/typed"\n[ -e "$FAKE/requeued" ] && exit 0\n'
        'trap "exit 3" USR1\ntouch "$FAKE/ready"\nwhile true; do sleep 0.01; done\n'
    )
    python.chmod(0o755)
    overrides = ("--set", "train.checkpoint_every_steps=1", "--set", "eval.every_epochs=0", "--set", "train.epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        assert job(recipe, "--slurm", "--out", "runs/mine", "--threads", "1", "--json", *overrides) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["job"] == "77"
    run, script = Path(document["run"]), Path(document["script"])
    assert run == tmp_path / "runs" / "mine"
    assert (slurm / "submitted").read_text() == script.read_text()
    first = start_job(script)
    while not (slurm / "ready").exists():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    os.kill(int((slurm / "tasks").read_text()), signal.SIGUSR1)  # what --signal=USR1@120 does
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 3, output
    assert (slurm / "requeued").read_text() == "requeue 77\n"

    def typed() -> list[str]:
        module, name, *words = (slurm / "typed").read_text().removesuffix("\0").split("\0")
        assert (module, name) == ("-m", "barlowctl")
        return words

    command = typed()
    save = Saver.save

    def warned(self: Saver, *arguments: Any, **options: Any) -> Any:
        written = save(self, *arguments, **options)
        signal.raise_signal(signal.SIGUSR1)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "save", warned)
        assert barlowctl(command) == 3
    assert "the state is saved" in capsys.readouterr().err
    second = start_job(script)
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 0, output
    again = typed()
    assert again[:3] == ["pretrain", "--resume", str(run)]
    assert barlowctl(again) == 0
    assert ", resumed at step" in "".join(capsys.readouterr())
    assert json.loads((run / "result.json").read_text())["steps"] == 10
    assert (slurm / "requeued").read_text() == "requeue 77\n"


@pytest.mark.slow
def test_a_job_saves_at_the_warning_requeues_and_resumes_by_itself(
    recipe: Path, tmp_path: Path, slurm: Path, capsys: Captured
) -> None:
    overrides = ("--set", "train.checkpoint_every_steps=1", "--set", "eval.every_epochs=0", "--set", "train.epochs=3")
    assert job(recipe, "--slurm", "--out", "runs/mine", "--threads", "1", "--json", *overrides) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["job"] == "77"
    run, script = Path(document["run"]), Path(document["script"])
    assert run == tmp_path / "runs" / "mine"
    assert (slurm / "submitted").read_text() == script.read_text()
    first = start_job(script)
    deadline = time.monotonic() + 900
    while not checkpoint.list_checkpoints(run / "checkpoints"):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int((slurm / "tasks").read_text()), signal.SIGUSR1)  # what --signal=USR1@120 does
    output, _ = first.communicate(timeout=900)
    assert first.returncode == 3, output
    assert "the state is saved" in output
    assert (slurm / "requeued").read_text() == "requeue 77\n"
    second = start_job(script)
    output, _ = second.communicate(timeout=900)
    assert second.returncode == 0, output
    assert ", resumed at step" in output
    assert json.loads((run / "result.json").read_text())["steps"] == 30
    assert (slurm / "requeued").read_text() == "requeue 77\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=lambda number: number.name)
def test_a_job_stopped_before_its_first_step_queues_itself_again_and_begins(
    number: signal.Signals, recipe: Path, tmp_path: Path, slurm: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while the program imports: there is no state to save yet, and nothing handles it."""
    (slurm / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if 'pretrain' in sys.orig_argv and os.environ.get('SLOW'):\n"
        f"    open({str(slurm / 'importing')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(240)\n"
    )
    assert job(recipe, "--print-sbatch", "--out", "runs/mine", "--threads", "1", "--set", "train.epochs=1") == 0
    script = tmp_path / "job.sh"
    script.write_text(capsys.readouterr().out)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(slurm), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("SLOW", "1")
    first, importing = start_job(script), slurm / "importing"
    while not (importing.is_file() and importing.read_text()):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    os.kill(int(importing.read_text()), number)
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 128 + number, output
    assert (slurm / "requeued").read_text() == "requeue 77\n"
    monkeypatch.setenv("SLOW", "")
    second = start_job(script)
    output, _ = second.communicate(timeout=900)
    assert second.returncode == 0, output
    assert json.loads((tmp_path / "runs" / "mine" / "result.json").read_text())["epochs"] == 1
    third = start_job(script)
    assert "is finished" in third.communicate(timeout=300)[0]
    assert third.returncode == 0
    assert (slurm / "requeued").read_text() == "requeue 77\n"


def test_a_lost_rank_queues_the_job_again_but_not_for_ever(
    recipe: Path, tmp_path: Path, slurm: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = slurm / "it's a python"
    monkeypatch.setattr(sys, "executable", str(python))
    assert job(recipe, "--print-sbatch", "--out", "runs/mine") == 0
    script = tmp_path / "job.sh"
    script.write_text(capsys.readouterr().out)
    requeues = 0
    lost, stopped, warned_in_start, preempted_in_start, killed, crashed = 4, 3, 138, 143, 137, 139
    for code, restarts, again in (
        (lost, "0", True), (lost, "5", False), (5, "0", False), (2, "0", False), (stopped, "9", True),
        (warned_in_start, "0", True), (warned_in_start, "5", False), (preempted_in_start, "9", True), (130, "0", False),
        (killed, "0", True), (killed, "5", False), (crashed, "0", True),
    ):  # fmt: skip
        python.write_text(f"#!/bin/bash\nexit {code}\n")
        python.chmod(python.stat().st_mode | stat.S_IXUSR | 0o755)
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        process = start_job(script)
        process.communicate(timeout=300)
        assert process.returncode == code
        requeues += again
        requeued = (slurm / "requeued").read_text() if requeues else ""
        assert requeued.count("requeue 77") == requeues, (code, restarts)


def test_the_script_asks_for_what_it_is_told(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    code = barlowctl(
        ["pretrain", "--recipe", str(recipe), "--nodes", "4", "--gpus", "8", "--time", "24:00:00", "--print-sbatch",
         "--slurm-option", "partition=gpu", "--slurm-option", "cpus-per-task=10", "--workers", "9",
         "--set", "model.projector=[64, 64]", "--out", "a run"]
    )  # fmt: skip
    assert code == 0
    script = capsys.readouterr().out
    for line in (
        "nodes=4", "ntasks-per-node=8", "gpus-per-node=8", "time=24:00:00", "partition=gpu", "cpus-per-task=10",
        "signal=USR1@120", "requeue",
    ):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script
    assert f"run='{tmp_path}/a run'\n" in script
    assert "'model.projector=[64, 64]'" in script
    assert "--workers 9" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert not (tmp_path / "a run").exists()


@pytest.mark.parametrize(
    ("arguments", "requested"),
    [
        ([], ["gpus-per-node=1"]),
        (["--threads", "4"], ["gpus-per-node=1"]),
        (["--device", "cpu"], []),
        (["--device", "cpu", "--threads", "4"], ["cpus-per-task=4"]),
        (["--device", "cpu", "--set", "train.cpu_threads=2"], ["cpus-per-task=2"]),
        (["--processes", "2", "--threads", "4", "--slurm-option", "cpus-per-task=6"], ["cpus-per-task=6"]),
    ],
)
def test_a_job_for_cpus_asks_for_cores_and_no_gpu(
    recipe: Path, capsys: Captured, arguments: list[str], requested: list[str]
) -> None:
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--print-sbatch", *arguments]) == 0
    script = capsys.readouterr().out
    assert re.findall(r"^#SBATCH --(gpus.*|cpus.*)$", script, re.MULTILINE) == requested


def test_cores_of_a_task_reach_srun(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    """Since Slurm 22.05 srun has one core a task, whatever the batch script was given."""
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--print-sbatch"]) == 0
    script = capsys.readouterr().out
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text('#!/bin/bash\necho "cores: ${SRUN_CPUS_PER_TASK-none}"\n')
    (programs / "scontrol").write_text("#!/bin/bash\necho here\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    for cores, says in (("6", "6"), (None, "none")):
        environment = {"PATH": f"{programs}:{os.defpath}", "SLURM_JOB_NODELIST": "here", "SLURM_JOB_ID": "7"}
        environment |= {"SLURM_CPUS_PER_TASK": cores} if cores else {}
        done = subprocess.run(["bash"], input=script, capture_output=True, text=True, env=environment)
        assert f"cores: {says}\n" in done.stdout


def test_the_folder_of_a_printed_jobs_log_is_there_before_slurm_needs_it(
    recipe: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert job(recipe, "--print-sbatch", "--out", "runs/new/mine") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#SBATCH --output=")]
    folder = Path(line.partition("=")[2]).parent
    assert folder == tmp_path / "runs" / "new"
    assert list(folder.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert job(recipe, "--print-sbatch", "--out", "file/mine") == 0
    output = capsys.readouterr()
    assert output.out.startswith("#!/bin/bash")
    assert "which must exist before it starts" in output.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpus", "3", "--print-sbatch"], "cannot be shared equally by 3 ranks"),
        (["--gpus", "128", "--print-sbatch"], "--set train.batch_size=256"),  # one image each: no correlation
        (["--print-sbatch", "--slurm-option", "partition"], "--slurm-option is 'partition'"),
        (["--slurm"], "there is no sbatch on this machine"),
    ],
)
def test_what_a_job_would_refuse_is_refused_at_once(
    recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert barlowctl(["pretrain", "--recipe", str(recipe), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_slurms_refusal_is_passed_on(recipe: Path, slurm: Path, capsys: Captured) -> None:
    (slurm / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    assert job(recipe, "--slurm") == 2
    assert "invalid partition" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my run [1]", "it's 50%", "-dash", "é"])
def test_a_name_with_anything_in_it_stays_one_word_of_the_script(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = tmp_path / "runs here" / name
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--out", str(run), "--print-sbatch"]) == 0
    script = capsys.readouterr().out
    directives = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    words = [shlex.split(line) for line in directives]  # Slurm reads quotes as a shell does
    assert all(len(word) == 1 for word in words), directives
    assert [f"--output={run}.slurm.log".replace("%", "%%")] in words
    (line,) = [line for line in script.splitlines() if line.startswith("run=")]
    assert shlex.split(line) == [f"run={run}"]
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize("flags", [["--time", "24:00:00"], ["--nodes", "2"], ["--slurm-option", "partition=gpu"]])
def test_flags_of_a_job_are_no_part_of_a_run_here(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert barlowctl(["pretrain", "--recipe", "quickstart", *flags]) == 2
    errors = capsys.readouterr().err
    assert f"{flags[0]} belongs to a Slurm job" in errors
    assert f"next: barlowctl pretrain --recipe quickstart {' '.join(flags)} --print-sbatch" in errors
