"""Recipes: typed, frozen, refused with file, line and the nearest name; overrides; round trips."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.recipe import catalog, load, objectives, other_words
from barlowctl.recipe.problems import Origin, schema_keys

MINIMAL = 'name = "mine"\n[data]\ndataset = "photos"\n'
REQUIRED = {"resnet50", "resnet50-300ep", "cifar10-resnet18", "imagenet100-resnet18", "quickstart", "fashion-mnist"}


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load.parse(text, overrides)
    assert caught.value.next
    return caught.value.message


def test_the_promised_recipes_ship() -> None:
    assert set(catalog.shipped()) >= REQUIRED


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_every_shipped_recipe_is_complete_and_round_trips(name: str) -> None:
    recipe = load.load(name)
    assert recipe.name == name
    assert recipe.description
    text = load.dump(recipe)
    assert load.parse(text) == recipe
    assert f"crop_scale = {list(recipe.views.first.crop_scale)}" in text  # a list of numbers is a line
    header = catalog.find(name).read_text(encoding="utf-8").split("name =")[0]
    assert "command" in header
    assert "hardware" in header
    assert "expected" in header


def test_the_papers_recipe_says_what_the_paper_says() -> None:
    recipe = load.load("resnet50")
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.warmup_epochs) == (1000, 2048, 10)
    assert recipe.model.projector == (8192, 8192, 8192)
    assert recipe.objective.lambd == 0.0051
    assert (recipe.optimizer.name, recipe.optimizer.momentum, recipe.optimizer.eta) == ("lars", 0.9, 0.001)
    assert recipe.optimizer.lr == 0.2
    # the code's pair, W 16: the exact gradient is 16 times the one that the published numbers were used with
    assert recipe.optimizer.lr_biases == pytest.approx(0.0048 / 16)
    assert recipe.optimizer.weight_decay == pytest.approx(16 * 1e-6)
    first, second = recipe.views.first, recipe.views.second
    assert (first.blur, second.blur, first.solarize, second.solarize) == (1.0, 0.1, 0.0, 0.2)
    assert first.model_dump(exclude={"blur", "solarize"}) == second.model_dump(exclude={"blur", "solarize"})
    changes = load.diff(recipe, load.load("resnet50-300ep"))
    assert [key for key, _, _ in changes] == ["name", "description", "train.epochs"]


def test_a_recipe_is_frozen() -> None:
    recipe = load.parse(MINIMAL)
    with pytest.raises(ValidationError):
        recipe.train.epochs = 3  # type: ignore[misc]


def test_overrides_are_typed_values() -> None:
    recipe = load.parse(
        MINIMAL, ["train.epochs=5", "optimizer.name=sgd", "model.projector=[64, 32]", "train.warmup_epochs=0"]
    )
    assert (recipe.train.epochs, recipe.optimizer.name, recipe.model.projector) == (5, "sgd", (64, 32))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epoch=5", "did you mean 'train.epochs'?"),
        ("epochs=5", "did you mean 'train.epochs'?"),
        ("optimizer.name=lras", "did you mean 'lars'?"),
        ("objective.form=gramm", "did you mean 'gram'?"),
        ("train.batch_size=1", "a whole number from 2 to 2,147,483,647"),
        ("train.batch_size=ten", "'ten'"),
        ("train.warmup_epochs=2000", "1,000 epochs"),
        ("views.first.crop_scale=[0.5, 0.2]", "must not exceed"),
        ("views.first.blur=1.5", "a number from 0 to 1"),
        ("views.mean=[0.5]", "one per channel"),
        ("train.epochs.x=1", "train.epochs"),
        ("optimizer.lr=nan", "is nan. Allowed: a number from 1e-12 to 1,000,000"),
        ("train.epochs=true", "is true. Allowed: a number above 0 to"),  # pydantic takes it for 1
        ("train.milestones=[true, 5]", "is [true, 5]. Allowed: a list, each a whole number"),
        ("optimizer.betas=[0.9, false]", "is [0.9, false]. Allowed: a list of two, each a number"),
        ("data.channels=true", "is true. Allowed: a whole number from 1 to 64"),
        ("objective.lambd=true", 'is true. Allowed: a number from 0 to 1,000,000 or "auto"'),
    ],
)
def test_wrong_overrides_are_refused_by_name(override: str, says: str) -> None:
    message = refusal(MINIMAL, override)
    assert says in message
    assert override.partition("=")[0].split(".")[0] in message


def test_every_sentence_of_a_refusal_ends() -> None:
    with pytest.raises(
        UserError, match=r"^--set train\.precision=x: train\.precision is 'x'\. Allowed: .* or 'fp16'\.$"
    ):
        load.load("quickstart", ["train.precision=x"])


def test_what_is_no_recipe_file_is_called_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'/dev/null' is a pipe, a socket or a device"):
        load.load("/dev/null")
    with pytest.raises(UserError, match="is a folder, not a recipe file"):
        load.load(str(tmp_path))
    with pytest.raises(UserError, match=r"recipe file '.*r\.toml' does not exist"):
        load.load(str(tmp_path / "r.toml"))


def test_an_override_without_a_value_is_refused() -> None:
    assert "key=value" in refusal(MINIMAL, "train.epochs")


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL + "[train]\n# a comment\nepoch = 3\n")
    with pytest.raises(
        UserError, match=r"mine\.toml, line 6: unknown key 'train\.epoch', did you mean 'train\.epochs'"
    ):
        load.load(str(path))
    path.write_text(MINIMAL + '[train]\nepochs = "many"\n')
    with pytest.raises(UserError, match=r"line 5: train\.epochs is 'many'"):
        load.load(str(path))
    path.write_text("name = \n")
    with pytest.raises(UserError, match="not valid TOML"):
        load.load(str(path))


@pytest.mark.parametrize(
    ("line", "copy"),
    [
        ('extends = "quickstart"', "quickstart quickstart.toml"),
        ('_base_ = ["resnet50.toml"]', "resnet50 resnet50.toml"),
        ('_BASE_ = "own.toml"', "own.toml own-2.toml"),
        ('defaults = [{ model = "resnet18" }]', "quickstart quickstart.toml"),
        ('defaults = ["gone"]', "quickstart quickstart.toml"),
    ],
)
def test_a_recipe_that_takes_its_keys_from_another_is_told_to_begin_as_a_copy(
    line: str, copy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it lacks is not named: the other one has it."""
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(MINIMAL)
    Path("mine.toml").write_text(f"{line}\n[train]\nepochs = 3\n")
    with pytest.raises(UserError, match=r"^mine\.toml, line 1: '\w+' is no key: a recipe stands alone") as refused:
        load.load("mine.toml")
    assert refused.value.next == f"barlowctl recipes copy {copy}"
    assert "missing" not in refused.value.message


def test_several_mistakes_are_told_at_once() -> None:
    message = refusal(MINIMAL, "train.epoch=5", "optimizer.name=lras")
    assert "train.epoch" in message
    assert "lras" in message


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet50'"):
        load.load("resnet5")
    with pytest.raises(UserError, match=r"nowhere\.toml' does not exist"):
        load.load("nowhere.toml")


def test_a_name_with_an_ending_is_answered_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits.toml").touch()
    with pytest.raises(UserError, match=r"^recipe file 'digits\.tml' does not exist, did you mean 'digits\.toml'\?"):
        load.load("digits.tml")
    with pytest.raises(UserError, match=r"^recipe file '\./x' does not exist$"):
        load.load("./x")


def test_digest_ignores_the_label_and_nothing_else() -> None:
    recipe = load.parse(MINIMAL)
    assert load.digest(load.parse(MINIMAL.replace("mine", "other"))) == load.digest(recipe)
    for override in ("seed=1", "train.epochs=999", "views.first.hue=0.11", "data.dataset=other"):
        assert load.digest(load.override(recipe, [override])) != load.digest(recipe)


def test_small_views_follow_the_first_two() -> None:
    recipe = load.parse(MINIMAL, ["views.size=64", "views.small.count=3", "views.small.size=32", "views.small.hue=0.2"])
    assert recipe.sizes == [64, 64, 32, 32, 32]
    views = [view for _, view in recipe.views.listed()]
    assert views[:2] == [recipe.views.first, recipe.views.second]
    assert [(view.crop_scale, view.blur, view.hue) for view in views[2:]] == [((0.05, 0.14), 0.5, 0.2)] * 3
    assert load.parse(load.dump(recipe)) == recipe
    assert load.digest(load.override(recipe, ["views.small.count=4"])) != load.digest(recipe)


def test_without_small_views_a_recipe_is_written_as_before_there_were_any() -> None:
    recipe = load.parse(MINIMAL)
    assert recipe.sizes == [224, 224]
    assert not {"small", "patches"} & set(load.parse(MINIMAL).model_dump()["views"])
    assert not any("small" in key or "patches" in key for key in load.flatten(recipe))
    none = load.parse(MINIMAL, ["views.small.count=3", "views.small.count=0"])
    assert (none, load.digest(none)) == (recipe, load.digest(recipe))
    changes = load.diff(recipe, load.override(recipe, ["views.small.count=2"]))
    assert ("views.small.count", None, 2) in changes


def test_patches_follow_the_other_views_where_a_method_takes_them() -> None:
    """PIRL's: one full view, and the patches of one crop, row by row, with their own distortions."""
    changes = ["views.size=36", "views.patches.cell=12", "views.patches.window=9", "views.patches.photometric=0.5"]
    recipe = load.parse(MINIMAL, changes)
    assert recipe.sizes == [36, 36]
    listed = recipe.views.listed(1, patches=True)
    assert [size for size, _ in listed] == [36] + [9] * 9
    assert [view for _, view in listed] == [recipe.views.first] + [recipe.views.patches] * 9
    assert load.parse(load.dump(recipe)) == recipe
    own = load.parse(MINIMAL).views.patches  # vissl's table
    assert (own.grid, own.cell, own.window, own.crop_scale) == (3, 85, 64, (0.6, 1.0))
    assert (own.jitter, own.brightness, own.contrast, own.saturation, own.hue) == (1.0, 0.4, 0.4, 0.4, 0.2)
    assert (own.grayscale, own.blur, own.solarize, own.flip, own.photometric) == (0.2, 0.0, 0.0, 0.5, 0.66)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("views.patches.window=86", "larger than cell 85"),
        ("views.patches.windows=64", "did you mean 'views.patches.window'"),
        ("views.first.greyscale_first=true", "did you mean 'views.first.grayscale_first'"),
        ("views.small.count=33", "from 0 to 32"),
        ("views.small.size=4", "from 8 to 1,024"),
        ("views.small.crop_scale=[0.5, 0.2]", "must not exceed"),
        ("views.small.counts=2", "did you mean 'views.small.count'"),
    ],
)
def test_wrong_small_views(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load.parse(MINIMAL, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.nestrov=true", "did you mean 'optimizer.nesterov'"),
        ("optimizer.lars_variant=simclar", "did you mean 'simclr'"),
        ("train.schedule=steps", "did you mean 'step'"),
        ("train.schedule=step", "milestones is empty"),
        ("train.milestones=[120, 60]", "each must be later"),
        ("train.milestone=[60]", "did you mean 'train.milestones'"),
        ("train.warmup_start_scale=1.5", "a number from 0 to 1"),
    ],
)
def test_wrong_schedules_and_optimizers(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load.parse(MINIMAL, [override])


def test_nesterov_without_momentum_is_refused() -> None:
    wrong = ["optimizer.name=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"]
    with pytest.raises(UserError, match="momentum is 0"):
        load.parse(MINIMAL, wrong)


def test_what_was_added_later_changes_no_digest_until_it_is_set() -> None:
    """The digest is the one of commit 0955829, before they were there."""
    recipe = load.parse(MINIMAL)
    assert load.digest(recipe) == "b5864287077bd450"
    settings = ("optimizer.nesterov=true", "train.schedule=constant", "train.milestone_factor=0.5")
    for override in (*settings, "views.second.grayscale_first=true", "views.patches.photometric=0.5"):
        assert load.digest(load.override(recipe, [override])) != load.digest(recipe)


def test_diff_names_what_differs() -> None:
    recipe = load.parse(MINIMAL)
    changed = load.override(recipe, ["train.epochs=7", "train.warmup_epochs=1"])
    assert load.diff(recipe, changed) == [("train.epochs", 1000, 7), ("train.warmup_epochs", 10.0, 1.0)]
    assert load.diff(recipe, recipe) == []


def test_copy_never_overwrites(tmp_path: Path) -> None:
    target = catalog.copy("resnet50", tmp_path)
    assert target.read_bytes() == catalog.find("resnet50").read_bytes()
    with pytest.raises(UserError, match="not overwritten"):
        catalog.copy("resnet50", tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        catalog.copy("resnet50", tmp_path / "none" / "x.toml")


def test_epochs_may_be_part_of_one_and_whole_ones_are_written_as_before() -> None:
    whole = load.load("quickstart", ["train.epochs=5"])
    assert (whole.train.epochs, load.digest(whole)) == (5, "8eafc3c140f61311")  # as before there were others
    assert "epochs = 5\n" in load.dump(whole)
    assert load.digest(load.load("quickstart", ["train.epochs=5.0"])) == "8eafc3c140f61311"
    part = load.load("quickstart", ["train.epochs=2.5"])
    assert "epochs = 2.5\n" in load.dump(part)
    assert load.parse(load.dump(part)) == part
    with pytest.raises(UserError, match=r"train\.epochs is 0\. Allowed: a number above 0 to 2,147,483,647\."):
        load.load("quickstart", ["train.epochs=0"])


def test_an_error_shows_the_recipe_that_was_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:  # what is typed from Python is no flag
        load.parse("name = 'x'\n", ["objective.tau=1"], origin=Origin("x", "", "fashion-mnist-simclr"))
    assert error.value.next == "barlowctl recipes show fashion-mnist-simclr"
    own = tmp_path / "mine.toml"
    own.write_text('name = "mine"\n[data]\ndataset = "d"\n[objective]\ntau = 1\n')
    with pytest.raises(UserError) as error:
        load.load(str(own))
    assert error.value.next == "barlowctl recipes show quickstart"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("views.small=4", r"views\.small is 4\. Allowed: a section with keys of its own, as in \[views\.small\]"),
        (
            "objective=simclr",
            r"objective is 'simclr', did you mean 'objective\.name'\? Allowed: a section with keys of its own",
        ),
        ("init.heads=maybe", r"init\.heads is 'maybe'\. Allowed: true or false\."),
        (
            "model.projector=256",
            r"model\.projector is 256\. Allowed: a list of one or more, each a whole .*, e\.g\. \[256\]",
        ),
        ("model.projector=[]", r"model\.projector is \[\]\. Allowed: a list of one or more, each a whole number"),
        (
            "model.projector=[0]",  # once: pydantic calls the list short, too
            r"^--set model\.projector=\[0\]: model\.projector\[0\] is 0\. Allowed: a list of one or more, [^\n]*\Z",
        ),
        ("views.size=0", r"views\.size is 0\. Allowed: a whole number from 8 to 1,024\.$"),
        ("views.size=true", r"views\.size is true\. Allowed: a whole number from 8 to 1,024\.$"),
        (
            "data.bands=x",
            r"data\.bands is 'x'\. Allowed: a list of at most 64, each a whole number from 1 to 2,147,483,647\.$",
        ),
        (
            "data.bands=[0,0,4]",
            r"data\.bands\[0\] is 0\. .*\n.*data\.bands\[1\] is 0\. Allowed: a list of at most 64, each a whole",
        ),
        ("data.channels=0", r"data\.channels is 0\. Allowed: a whole number from 1 to 64\.$"),
        ("data.bands=[1,2]", r"data\.bands has 2 numbers but data\.channels is 1"),
        (
            "views.first.crop_scale=[]",
            r"^.*views\.first\.crop_scale is \[\]\. Allowed: a list of two, each a number.*$",
        ),
        ("data.background=7", r"data\.background is 7\. Allowed: text: behind .* white, black, grey, #RRGGBB, or none"),
        ("model.stem=false", r"model\.stem is false\. Allowed: 'default', 'cifar' or 'stride2'\.$"),
        ("views.mean=[.5]", r"views\.mean is '\[\.5\]'\. Allowed: a list, .*TOML: a digit before the point"),
        ("train.epochs=0.05", r"train\.warmup_epochs is 0\.5 but the run has 0\.05 epochs"),
    ],
)
def test_a_value_of_another_kind_is_answered_in_the_recipes_words(override: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load.load("quickstart", [override])


@pytest.mark.parametrize(
    ("recipe", "overrides", "change"),
    [
        ("imagenet100-resnet18", ["train.epochs=1"], "train.warmup_epochs=0.1"),
        ("resnet50", ["train.epochs=0.5"], "train.warmup_epochs=0.05"),
        ("quickstart", ["train.freeze_backbone_epochs=7"], "train.freeze_backbone_epochs=0.35"),
    ],
)
def test_values_that_do_not_fit_come_with_a_change_that_makes_them_fit(
    recipe: str, overrides: list[str], change: str
) -> None:
    with pytest.raises(UserError) as refused:
        load.load(recipe, overrides)
    assert refused.value.next == f"--set {change}"
    load.load(recipe, [*overrides, change])


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["views.mean=[0.1,0.2,0.3]"], "data.channels=3 views.std=[0.353, 0.353, 0.353]"),
        (["views.std=[0.1,0.2,0.3]"], "data.channels=3 views.mean=[0.286, 0.286, 0.286]"),
        (["views.mean=[0.1,0.2,0.3]", "views.std=[1,2,3]"], "data.channels=3"),
        (["eval.crop=500"], "eval.resize=500"),
        (["eval.resize=16"], "eval.crop=16"),
        (["train.keep_best=lidar", "eval.every_epochs=0"], "eval.every_epochs=1 eval.lidar_images=1000"),
        (["train.stop=linear", "eval.linear=false"], "eval.linear=true"),
        (["train.schedule=step", "train.epochs=100"], "train.milestones=[60, 80]"),
        (["train.milestones=[60,30,30]"], "train.milestones=[30, 60]"),
        (["views.first.crop_scale=[0.5,0.1]"], "views.first.crop_scale=[0.1, 0.5]"),
        (["views.second.erase_scale=[0.5,1.5]"], "views.second.erase_scale=[0.5, 1]"),
        (["optimizer.nesterov=true", "optimizer.name=sgd", "optimizer.momentum=0"], "optimizer.momentum=0.9"),
        (["train.micro_batch=2"], "train.micro_batch=4"),
        (["train.sync_batch_norm=false", "train.sync_batch_norm_ranks=4"], "train.sync_batch_norm=true"),
        (["train.sync_batch_norm_ranks=4", "train.sync_batch_norm=false"], "train.sync_batch_norm=true"),
        (["objective.form=gram", "objective.criterion=cross-entropy"], "objective.form=auto"),
        (["eval.lidar_images=1"], "eval.lidar_images=2"),
        (["views.patches.window=90"], "views.patches.cell=90"),
        (["views.patches.cell=50"], "views.patches.window=50"),
    ],
)
def test_keys_that_do_not_fit_together_come_with_the_values_of_the_others(overrides: list[str], changes: str) -> None:
    """What was typed stays where another value can give way, and what is advised is taken."""
    with pytest.raises(UserError) as refused:
        load.load("quickstart", overrides)
    advised = shell.split(refused.value.next or "")
    assert advised[::2] == ["--set"] * (len(advised) // 2)
    assert " ".join(advised[1::2]) == changes
    replaced = {change.partition("=")[0] for change in advised[1::2]}
    load.load("quickstart", [*(o for o in overrides if o.partition("=")[0] not in replaced), *advised[1::2]])


def test_what_is_wrong_by_itself_does_not_hide_what_does_not_fit() -> None:
    message = refusal(MINIMAL, "train.epochs=-1", "model.projektor=[3]", "views.mean=[1]", "train.keep_best=knn")
    lines = message.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "--set model.projektor=[3]", "--set train.epochs=-1", "--set views.mean=[1]", "--set train.keep_best=knn",
    ]  # fmt: skip
    follows_from_the_first = refusal(MINIMAL, "train.epochs=-1", "train.warmup_epochs=5000")
    assert len(follows_from_the_first.splitlines()) == 1  # of how many epochs there are nobody knows


def test_another_problem_beside_is_not_answered_by_that_change() -> None:
    with pytest.raises(UserError) as refused:
        load.load("imagenet100-resnet18", ["train.epochs=1", "model.stem=none"])
    assert refused.value.next == "--set train.warmup_epochs=0.1 without --set=model.stem=none"


@pytest.mark.parametrize(
    ("overrides", "following"),
    [
        (["train.channels_last=maybe"], "without --set=train.channels_last=maybe"),
        (["train.precision=bf61"], "--set train.precision=bf16"),
        (["views.size=0"], "--set views.size=8"),
        (["views.size=2000", "train.batch_size=x"], "--set views.size=1024 without --set=train.batch_size=x"),
        (["train.epochs=0"], "without --set=train.epochs=0"),  # the least number above 0 helps nobody
        (["train.epochs=1e12"], "without --set=train.epochs=1e12"),
        (["train.epoch=20"], "--set train.epochs=20 without --set=train.epoch=20"),
        (["train.epoch=0"], "without --set=train.epoch=0"),  # the nearest key does not take it
        (["epochs=20"], "--set train.epochs=20 without --set=epochs=20"),
        (["objective.name=simclrr"], "--set objective.name=simclr"),
        (["objective.name=simclr", "objective.mu=1"], "without --set=objective.mu=1"),
        (
            ["objective.name=simclr", "objective.tau=1"],
            "--set objective.temperature=1 without --set=objective.tau=1",
        ),
        (  # pydantic names the latter alone
            ["views.mean=[1,2]", "train.mu=3"],
            "--set data.channels=2 --set 'views.std=[0.353, 0.353]' without --set=train.mu=3",
        ),
        (
            ["views.mean=[1,2]", "train.seed=3"],
            "--set seed=3 --set data.channels=2 --set 'views.std=[0.353, 0.353]' without --set=train.seed=3",
        ),
        (["optimzer.lr=0.1"], "--set optimizer.lr=0.1 without --set=optimzer.lr=0.1"),
        (["view.frist.blur=0.1"], "without --set=view.frist.blur=0.1"),  # two words are wrong
        (["views.frist.blur=0.1"], "--set views.first.blur=0.1 without --set=views.frist.blur=0.1"),
        (["learning_rate=1e-3"], "--set optimizer.lr=1e-3 without --set=learning_rate=1e-3"),
        (["train.optimizer=adamw"], "--set optimizer.name=adamw without --set=train.optimizer=adamw"),
        (["objective.lambda=0.1"], "--set objective.lambd=0.1 without --set=objective.lambda=0.1"),
        (["optimizer=adamw"], "--set optimizer.name=adamw without --set=optimizer=adamw"),
        (["objective=vicreg"], "--set objective.name=vicreg without --set=objective=vicreg"),
        (["views.mean=[1,2]", "train.epochs=20"], "--set data.channels=2 --set 'views.std=[0.353, 0.353]'"),
        (
            ["data.range=x", "views.mean=[1,2,3]"],
            "--set data.channels=3 --set 'views.std=[0.353, 0.353, 0.353]' without --set=data.range=x",
        ),
        (
            ["model.projektor=[3]", "views.mean=[1,2,3]", "eval.crop=500", "train.epochs=0"],
            "--set 'model.projector=[3]' --set eval.resize=500 --set data.channels=3 "
            "--set 'views.std=[0.353, 0.353, 0.353]' without '--set=model.projektor=[3]' --set=train.epochs=0",
        ),
        (["model.projector=[0]"], "without '--set=model.projector=[0]'"),
        (["seed.x=1"], "without --set=seed.x=1"),
        (["eval.corp=3", "views.men=3"], "without --set=views.men=3 --set=eval.corp=3"),
        (["eval.corp=28", "views.men=3"], "--set eval.crop=28 without --set=views.men=3 --set=eval.corp=28"),
        (["epochs"], "without --set=epochs"),
        (["epochs", "seed=x", " =3", "lr 3"], "without --set=epochs '--set= =3' '--set=lr 3'"),
    ],
)
def test_a_refused_override_is_answered_by_what_the_recipe_takes(overrides: list[str], following: str) -> None:
    with pytest.raises(UserError) as refused:
        load.load("quickstart", overrides)
    assert refused.value.next == following


def test_words_of_other_tools_are_of_keys_that_there_are() -> None:
    keys = [key for method in objectives.METHODS.values() for key in schema_keys(method)]
    words = [word for of_key in other_words._KEYS.values() for word in of_key]
    assert set(other_words._KEYS) | set(other_words._SECTIONS.values()) <= set(keys)
    assert len(words) == len(set(words))
    assert not set(words) & {key.rpartition(".")[2] for key in keys}


def test_a_recipe_that_is_wrong_without_its_overrides_is_looked_at(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('name = "mine"\n[data]\ndataset = "d"\n[train]\nepoch = 1\n')
    with pytest.raises(UserError) as refused:
        load.load(str(own), ["views.size=0"])
    assert refused.value.next == "barlowctl recipes show quickstart"


def test_a_problem_between_keys_is_where_they_were_set() -> None:
    message = refusal(MINIMAL, "train.batch_size=64", "train.epochs=5")
    assert message.startswith("--set train.epochs=5: train.warmup_epochs is 10 but the run has 5 epochs")
    of_a_single_epoch = refusal(MINIMAL, "train.batch_size=64", "train.epochs=1")
    assert of_a_single_epoch.startswith("--set train.epochs=1: train.warmup_epochs is 10 but the run has 1 epoch:")
    assert refusal(MINIMAL, "data.holdout=5", "data.channels=1").startswith("--set data.channels=1: views.mean has 3")
    assert refusal(MINIMAL, "model.stem=cifar", "train={epochs=5}").startswith("--set train={epochs=5}: train.warmup")
    in_the_file = f"{MINIMAL}[train]\nepochs = 5\n"
    assert refusal(in_the_file, "train.batch_size=64").startswith("recipe, line 4: train.warmup_epochs")


def test_weights_bring_the_statistics_of_channels_that_are_asked_for() -> None:
    recipe = load.load("adapt", ["init.weights=EXPORT", "data.channels=1"])
    assert recipe.views.mean == pytest.approx(
        (0.449,), abs=1e-6
    )  # until the weights are read: the mean of the recipe's
    assert recipe.views.std == pytest.approx((0.226,), abs=1e-6)
    assert recipe.init.normalization == "weights"
    named = load.load("adapt", ["init.weights=A", "data.channels=1", "views.mean=[0.3]", "views.std=[0.2]"])
    assert (named.views.mean, named.init.normalization) == ((0.3,), "recipe")
    assert load.parse(MINIMAL, ["init.weights=A", "data.channels=1"]).views.mean == recipe.views.mean
    with pytest.raises(UserError, match=r"^--set data\.channels=1: views\.mean has 3 numbers"):
        load.load("adapt", ["data.channels=1"])


def test_a_part_of_what_says_the_network_is_the_users_word_too() -> None:
    for key in ("model.backbone_args={depth=2}", "model.backbone_args.depth=2", "model.stem=cifar"):
        assert load.load("adapt", ["init.weights=A", key]).init.network == "recipe"
    for key in ("model.image_size=32", "model.pooling=avg", "model.drop_path=0.1", "model.projector=[8]"):
        assert load.load("adapt", ["init.weights=A", key]).init.network == "weights"


@pytest.mark.parametrize(
    ("name", "overrides", "digest"),
    [
        ("fashion-mnist-pirl", ["views.patches.grid=4"], "08312b7f582429be"),
        ("fashion-mnist-multicrop-barlow-twins", [], "9b3defabf9f232bd"),
        ("imagenet100-resnet18", ["views.small.count=2"], "a8785fcaf18fbf39"),
    ],
)
def test_views_that_are_not_turned_are_those_from_before_they_could_be(
    name: str, overrides: list[str], digest: str
) -> None:
    """Digests as of commit 3d214b8, of patches and small views too: cells of studies are found by them."""
    recipe = load.load(name, overrides)
    assert load.digest(recipe) == digest
    for view in ("first", "second", "small", "patches"):
        for key in ("vertical_flip", "rotate90"):
            assert load.digest(load.override(recipe, [f"views.{view}.{key}=0.5"])) != digest


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        (["train.keep_best=knn"], "--set eval.queries=holdout --set data.holdout=1000"),
        (
            ["train.stop=knn", "data.dataset=photos", "eval.queries=off"],
            "--set eval.queries=holdout --set data.holdout=100",
        ),
        (["eval.linear=true"], "--set eval.queries=holdout --set data.holdout=1000"),
        (["eval.linear=true", "data.holdout=500"], "--set eval.queries=holdout"),
    ],
)
def test_held_out_queries_are_advised_with_images_to_hold_out(changes: list[str], advice: str) -> None:
    """`eval.queries=holdout` alone was refused when it was typed: nothing was held out."""
    changes = ["eval.queries=off", *changes]
    with pytest.raises(UserError) as refused:
        load.load("resnet50", changes)
    assert refused.value.next == advice
    load.load("resnet50", [*changes, *advice.removeprefix("--set ").split(" --set ")])
