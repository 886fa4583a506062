"""Values that a flag does not take."""

from __future__ import annotations

from pathlib import Path

from tests.advice.scenario import Scenario
from tests.advice.scenarios.measure import EMBED, PROBE, SMALL
from tests.advice.scenarios.study import SHORT, small
from tests.advice.scenarios.training import RECIPE, TRAIN

PACK = ["data", "pack", "one folder", "./new.beton"]
STUDY = ["ablate", "--grid", "grid.toml", "--recipe", "digits.toml", *SHORT]
TRANSFER = ["transfer", "runs/done", "--threads", "1"]
DETECT = [*TRANSFER, "--task", "coco"]
WRITE = ["--out", "f.npz"]
OF_SIX = ["embed", "resnet10t", "my images", *SMALL]
SCENARIOS = {
    "images in the place of the network": Scenario(["embed", "one folder", *SMALL, *WRITE]),
    "images without their flag": Scenario(["data", "preview", "one folder"]),
    "a word too many": Scenario(["recipes", "show", "quickstart", "digits.toml"]),
    "a recipe and images without their flags": Scenario(["pretrain", "digits.toml", "digits", "--dry-run"]),
    "a word in the place of a recipe": Scenario(["pretrain", "nothing of this name"]),
    "runs of a folder": Scenario(["runs", "list", "runs"]),
    "a run to list": Scenario(["runs", "list", "runs/done"]),
    "a key of another optimizer": Scenario(
        ["pretrain", "--recipe", "digits.toml", "--set", "optimizer.eta=0.5", "--threads", "1", "--dry-run"]
    ),
    "--device": Scenario([*EMBED, *WRITE, "--device", "gpu"]),
    "--device of another kind": Scenario([*EMBED, *WRITE, "--device", "meta"]),
    "--loader": Scenario([*TRAIN, "--loader", "quick"]),
    "--neighbours": Scenario([*EMBED, "-n", "nope.jpg"]),
    "--neighbours beyond": Scenario([*EMBED, "--neighbours", "99"]),
    "--neighbours unreadable": Scenario(
        ["embed", "resnet10t", "with a bad one", *SMALL, "--on-unreadable", "skip", "-n", "3"]
    ),
    "--neighbours unreadable by name": Scenario(
        ["embed", "resnet10t", "with a bad one", *SMALL, "--on-unreadable", "skip", "-n", "bad.png"]
    ),
    "--map": Scenario([*OF_SIX, "--map", "m.pdf"]),
    "--map of three": Scenario(
        [*EMBED, "--map", "m.png"],
        slow=True,
    ),
    "--projection": Scenario([*OF_SIX, "--map", "m.png", "--projection", "tsn"]),
    "--out of embed": Scenario([*EMBED, "--out", "f.csv"]),
    "--set of a training alone, to embed": Scenario(
        ["embed", "test_resnet", "one folder", *WRITE, "--threads", "1", "--set", "train.epochs=1"]
    ),
    "--set of embed": Scenario([*EMBED, *WRITE, "--set", "train.epochs=1"]),
    "--on-unreadable": Scenario([*EMBED, *WRITE, "--on-unreadable", "skp"]),
    "tag of weights": Scenario(["embed", "resnet10t.imagenet", "one folder", *SMALL, *WRITE]),
    "--range": Scenario([*PACK, "--range", "3:1"]),
    "--set of embed, several": Scenario([*EMBED, *WRITE, "--set", "train.epochs=1", "--set", "seed=3"]),
    "data.range": Scenario(["data", "preview", "--data", "one folder", "--set", "data.range=3:1"]),
    "--background": Scenario([*PACK, "--background", "greenish"]),
    "--bands": Scenario([*PACK, "--bands", "x"]),
    "--bands backwards": Scenario([*PACK, "--bands", "3-1"]),
    "--layout": Scenario([*PACK, "--layout", "folders"]),
    "--store": Scenario([*PACK, "--store", "jpg"]),
    "--on-unreadable of pack": Scenario([*PACK, "--on-unreadable", "ignore"]),
    "--split": Scenario(["data", "pack", "my images", "./new.beton", "--split", "trian"]),
    "--split of a data set": Scenario(["data", "pack", "my images", "new", "--split", "trian"]),
    "data.dataset is empty": Scenario(["data", "preview", "--recipe", "quickstart", "--set", "data.dataset=' '"]),
    "--only": Scenario([*STUDY, "--print-sbatch", "--only", "baselin"], small),
    "--without": Scenario([*STUDY, "--print-sbatch", "--without", "baselin"], small, then="leave no variant to train"),
    "nothing is left": Scenario([*STUDY, "--print-sbatch", "--without", "baseline"], small),
    "--cell": Scenario([*STUDY, "--cell", "99"], small, slow=True),
    "--set seed": Scenario([*STUDY, "--print-sbatch", "--set", "seed=7"], small),
    "--slurm-option of a study": Scenario([*STUDY, "--print-sbatch", "--slurm-option", "gpu"], small),
    "--format": Scenario(["export", "runs/done", "--format", "tim"]),
    "--out of another format": Scenario(["export", "runs/done", "--out", "x.pth"]),
    "--protocol": Scenario([*PROBE, "--protocol", "fats"]),
    "--set of a protocol": Scenario([*PROBE, "--linear", "--protocol", "paper", "--set", "epochs=none"], slow=True),
    "--semi": Scenario([*PROBE, "--semi", "5", "--set", "epochs=1"], slow=True),
    "--semi-list": Scenario([*PROBE, "--semi", "1", "--set", "epochs=1", "--semi-list", "nowhere.txt"]),
    "--semi-list is empty": Scenario(
        [*PROBE, "--semi", "1", "--set", "epochs=1", "--semi-list", "empty.txt"],
        lambda patch: Path("empty.txt").touch(),
        slow=True,
    ),
    "--semi-list has one twice": Scenario(
        [*PROBE, "--data", "my images", "--semi", "1", "--set", "epochs=1", "--semi-list", "twice.txt"],
        lambda patch: Path("twice.txt").write_text("a/0.png\na/0.png\n"),
    ),
    "--semi-list of a class": Scenario(
        [*PROBE, "--data", "my images", "--semi", "1", "--set", "epochs=1", "--semi-list", "class.txt"],
        lambda patch: Path("class.txt").write_text("a/0.png\n"),
    ),
    "--task": Scenario([*TRANSFER, "--task", "foldr"], slow=True),
    "--protocol of transfer": Scenario(
        [*TRANSFER, "--protocol", "fats"],
        slow=True,
    ),
    "--cost": Scenario([*TRANSFER, "--task", "voc07", "--cost", "0"], then="voc07 is not in the data home"),
    "--set of detection": Scenario([*DETECT, "--set", "momentun=0.8"], then="coco is not in the data home"),
    "--set of detection, several": Scenario(
        [*DETECT, "--set", "momentun=0.8", "--set", "lr=-1", "--set", "rois_per_image=0", "--set", "zzzz=8"],
        then="coco is not in the data home",
    ),
    "--set of detection without a value": Scenario([*DETECT, "--set", "zzzz=8"], then="coco is not in the data home"),
    "--set of detection that is too small": Scenario([*DETECT, "--set", "lr=-1"], then="coco is not in the data home"),
    "--set of a detector": Scenario([*DETECT, "--set", "rois_per_image=-3"], then="coco is not in the data home"),
    "--iterations": Scenario([*DETECT, "--iterations", "3000000000"], then="coco is not in the data home"),
    "--quality": Scenario(["data", "pack", "one folder", "p.beton", "--quality", "900"]),
    "--store without a value": Scenario(["data", "pack", "one folder", "p.beton", "--store", "--quiet"]),
    "--set of the fast protocol": Scenario(
        [*TRANSFER, "--task", "places205", "--protocol", "fast", "--set", "epochs=2"],
        then="places205 is not in the data home",
    ),
    "ranks of a batch norm": Scenario(
        [
            *(*RECIPE, "--print-sbatch", "--nodes", "2", "--gpus", "3", "--set", "train.batch_size=120"),
            *("--set", "train.sync_batch_norm=true", "--set", "train.sync_batch_norm_ranks=4"),
        ]
    ),
    "a divided backbone": Scenario(
        [
            *(*RECIPE, "--print-sbatch", "--nodes", "2", "--gpus", "4", "--set", "train.batch_size=120"),
            *("--set", "train.shard=true", "--set", "optimizer.name=lars"),
        ]
    ),
    "ranks of a job": Scenario([*RECIPE, "--print-sbatch", "--nodes", "3", "--gpus", "1"]),
}
