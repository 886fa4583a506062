"""The shipped recipes against their sources, and against the size of the pictures that they are for."""

from __future__ import annotations

import re

import pytest

from barlowctl.recipe import catalog, load, objectives
from barlowctl.recipe.caution import cautions, of_enlargement
from barlowctl.recipe.schema import Recipe

SHORTER_SIDE = {"fashion-mnist": 28, "cifar10": 32, "imagenet": 375, "imagenet100": 375, "imagenette": 320}
SMALL = 96  # pictures up to this size are shown whole

SHIPPED = sorted(catalog.shipped())


def header(name: str) -> str:
    return catalog.find(name).read_text(encoding="utf-8").partition("\nname =")[0]


def overrides_in(text: str) -> list[str]:
    """The values of a text's --set flags."""
    return re.findall(r"--set (\S+)", text)


@pytest.mark.parametrize("name", SHIPPED)
def test_evaluation_shows_what_is_trained_on(name: str) -> None:
    """The evaluation crop against the views' size and the pictures' own."""
    recipe = load.load(name, ["init.weights=EXPORT"] if name == "adapt" else [])
    native = SHORTER_SIDE[recipe.data.dataset]
    assert cautions(recipe) == []
    assert recipe.views.size <= recipe.eval.crop <= 2 * recipe.views.size
    if native <= SMALL:
        assert recipe.eval.crop == recipe.eval.resize, "of small pictures nothing is cut off"
        assert native <= recipe.eval.resize <= 1.5 * native
    else:
        assert recipe.eval.crop / recipe.eval.resize == pytest.approx(224 / 256, abs=0.005)
        assert recipe.eval.crop == recipe.views.size < native


@pytest.mark.parametrize("name", SHIPPED)
def test_a_promised_number_names_its_source(name: str) -> None:
    expected = re.search(r"# expected  ((?:.*\n)(?:#  .*\n)*)", header(name))
    assert expected is not None
    assert re.search(r"\d\d\.\d", expected[1])
    assert re.search(r"paper, Table|README|CONFIG\.md|RESULTS\.md|docs/(adapt|experiments|methods)\.md", expected[1])


@pytest.mark.parametrize("name", ["resnet50", "resnet50-300ep"])
def test_resnet50_has_the_codes_pair_and_offers_the_papers(name: str) -> None:
    recipe = load.load(name)
    assert (recipe.optimizer.weight_decay, recipe.optimizer.lr_biases) == (16 * 1e-6, 0.0048 / 16)
    (line,) = [line for line in header(name).splitlines() if "--set optimizer.weight_decay" in line]
    paper = load.load(name, overrides_in(line))
    assert paper.optimizer.weight_decay == pytest.approx(32 * 1.5e-6)
    assert paper.optimizer.lr_biases == pytest.approx(0.0048 / 32)
    assert paper.objective.lambd == 0.005


@pytest.mark.parametrize("name", ["resnet50", "resnet50-300ep"])
def test_the_table_of_batch_sizes_is_issue_7s(name: str) -> None:
    """One rate L: weights L, biases 0.024 L / W."""
    text = header(name)
    assert "issue 7" in text

    def row(label: str) -> list[float]:
        match = re.search(rf"^#   {label} +((?:[\d.e-]+(?: +|$))+)", text, re.MULTILINE)
        assert match is not None
        return [float(word) for word in match[1].split()][:6]

    assert row("batch") == [128, 256, 512, 1024, 2048, 4096]
    assert row("lr") == [0.7, 0.4, 0.3, 0.25, 0.2, 0.2]
    assert row("lr_biases") == pytest.approx([0.024 * rate / 16 for rate in row("lr")])
    (line,) = [line for line in text.splitlines() if "--set train.batch_size" in line]
    recipe = load.load(name, overrides_in(line))
    column = row("batch").index(recipe.train.batch_size)
    assert recipe.optimizer.lr == row("lr")[column]
    assert recipe.optimizer.lr_biases == pytest.approx(row("lr_biases")[column])


def small_benchmark(name: str) -> Recipe:
    """A recipe with the values that solo-learn's scripts/pretrain/{cifar,imagenet-100}/barlow.yaml have in common."""
    recipe = load.load(name)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.lr_biases, optimizer.weight_decay) == ("lars", 0.3, 0.3, 1e-4)
    assert (optimizer.eta, optimizer.clip_trust_ratio, optimizer.momentum) == (0.02, True, 0.9)
    assert (recipe.model.backbone, recipe.model.projector) == ("resnet18", (2048, 2048, 2048))
    assert recipe.model.zero_init_last is False  # torchvision's default
    assert (recipe.train.batch_size, recipe.train.warmup_epochs, recipe.train.final_lr_scale) == (256, 10, 0.0)
    assert recipe.train.sync_batch_norm
    return recipe


def test_the_small_benchmarks_are_solo_learns_setting_or_say_where_they_are_not() -> None:
    cifar = small_benchmark("cifar10-resnet18")
    assert (cifar.train.epochs, cifar.objective.scale) == (1000, 0.1)
    assert (cifar.views.first.blur, cifar.views.second.blur, cifar.views.second.solarize) == (0.0, 0.0, 0.2)
    for word in ("pads by 2", "3e-5", "trust ratio", "trained beside"):
        assert word in header("cifar10-resnet18")
    imagenet = small_benchmark("imagenet100-resnet18")
    assert (imagenet.train.epochs, imagenet.objective.scale) == (400, 0.1 / 2)  # half of the gradient on two devices
    assert (imagenet.views.first.blur, imagenet.views.second.blur, imagenet.views.second.solarize) == (1.0, 0.1, 0.2)
    for word in ("1/2", "each device by themselves", "3e-5", "trust ratio", "trained beside"):
        assert word in header("imagenet100-resnet18")


@pytest.mark.parametrize(
    ("size", "resize", "crop"), [(224, 224, 32), (224, 256, 96), (64, 256, 127), (32, 256, 127), (64, 400, 64)]
)
def test_a_crop_that_shows_a_corner_of_the_picture_is_warned_about(size: int, resize: int, crop: int) -> None:
    given = [f"views.size={size}", f"eval.resize={resize}", f"eval.crop={crop}"]
    (caution,) = cautions(load.load("imagenet100-resnet18", given))
    assert f"central {crop} of {resize} pixels" in caution
    better = load.load("imagenet100-resnet18", [*given, *overrides_in(caution)])
    assert cautions(better) == []
    assert better.eval.crop == (size if crop > 2 * size else max(crop, size))
    assert (better.eval.crop / better.eval.resize) ** 2 == pytest.approx((224 / 256) ** 2, abs=0.02)


def test_pictures_far_smaller_than_the_views_are_warned_about_and_a_quarter_is_enough() -> None:
    (caution,) = cautions(load.load("imagenet100-resnet18", ["eval.resize=32", "eval.crop=32"]))
    assert "pictures of 32 pixels to a network that is trained on views of 224" in caution
    assert cautions(load.load("imagenet100-resnet18", ["eval.resize=256", "eval.crop=128"])) == []


def test_pictures_far_larger_than_the_views_are_warned_about() -> None:
    """`views.size` alone, of a recipe that evaluates at 224 pixels: 12 times the time."""
    (caution,) = cautions(load.load("resnet50", ["views.size=64"]))
    assert "pictures of 224 pixels to a network that is trained on views of 64" in caution
    assert overrides_in(caution) == ["eval.resize=73", "eval.crop=64"]
    assert cautions(load.load("resnet50", ["views.size=64", *overrides_in(caution)])) == []
    assert cautions(load.load("resnet50", ["views.size=112"])) == []


@pytest.mark.parametrize(
    ("side", "better"),
    [(28, 32), (64, 64), (96, 96), (100, 128), (111, 128), (112, None), (500, None)],
)
def test_views_far_larger_than_the_images_are_warned_about(side: int, better: int | None) -> None:
    recipe = load.load("resnet50")
    warned = of_enlargement(recipe, side)
    if better is None:
        assert warned == []
        return
    (caution,) = warned
    assert f"views of 224 pixels enlarge images of {side} " in caution
    changed = load.load("resnet50", overrides_in(caution))
    assert (changed.views.size, changed.eval.crop) == (better, better)
    assert of_enlargement(changed, side) == cautions(changed) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_views_of_shipped_recipes_fit_their_images(name: str) -> None:
    recipe = load.load(name, ["init.weights=EXPORT"] if name == "adapt" else [])
    assert of_enlargement(recipe, SHORTER_SIDE[recipe.data.dataset]) == []


def test_the_recipes_of_decorrelation_have_their_codes_values() -> None:
    """main_vicreg.py's, and main_imagenet.py's of mix-bt with W_ref 8 written into two numbers."""
    vicreg = load.load("resnet50-vicreg")
    assert vicreg.objective == objectives.VICReg(invariance=25.0, variance=25.0, covariance=1.0)
    optimizer, train = vicreg.optimizer, vicreg.train
    assert (optimizer.lr, optimizer.lr_biases, optimizer.weight_decay) == (0.2, 0.2, 1e-6)
    assert (train.epochs, train.batch_size, train.warmup_epochs, train.final_lr_scale) == (1000, 2048, 10, 0.001)
    mixed = load.load("resnet50-mixed-barlow-twins")
    assert mixed.objective == objectives.MixedBarlowTwins(lambd=0.0051, lambd_reg=1.0, reg_warmup=10 / 300)
    optimizer, train = mixed.optimizer, mixed.train
    assert (optimizer.weight_decay, optimizer.lr_biases) == (8 * 1e-6, 0.0048 / 8)
    assert (train.epochs, train.batch_size) == (300, 1024)
    crops = load.load("resnet50-multicrop-barlow-twins")
    assert crops.sizes == [224, 224, *[96] * 6]
    assert (crops.views.first.crop_scale, crops.views.small.crop_scale) == ((0.14, 1.0), (0.05, 0.14))
    assert "Nobody has" in header("resnet50-multicrop-barlow-twins")


def test_pirls_recipe_is_its_file() -> None:
    """vissl's pirl_jigsaw_4node_resnet50.yaml."""
    recipe = load.load("resnet50-pirl")
    assert recipe.objective == objectives.PIRL(criterion="nce", temperature=0.07, negatives=32000, momentum=0.5)
    assert recipe.sizes == [224, *[64] * 9]
    assert (recipe.views.patches.cell, recipe.views.patches.crop_scale) == (85, (0.6, 1.0))
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.weight_decay) == ("sgd", 0.03, 1e-4)
    assert recipe.optimizer.lr * recipe.train.batch_size / 256 == pytest.approx(0.12)
    assert (recipe.train.epochs, recipe.train.schedule_every, recipe.model.projector) == (800, "epoch", (128,))
    line = " ".join(line for line in header("resnet50-pirl").splitlines() if "--set" in line)
    deeper = load.load("resnet50-pirl", [given for given in overrides_in(line) if "epochs" not in given])
    assert deeper.model.projector == (2048, 128)
    assert deeper.objective == objectives.PIRL(criterion="cross_entropy", temperature=0.1)
    for view in (deeper.views.first, deeper.views.patches):  # photo_gblur.yaml: ImgPilColorDistortion of strength 1
        colours = (view.jitter, view.brightness, view.contrast, view.saturation, view.hue, view.grayscale, view.blur)
        assert colours == (0.8, 0.8, 0.8, 0.8, 0.2, 0.2, 0.5)
    assert deeper.views.patches.photometric == 0.0


def test_adapt_begins_carefully_and_its_header_says_why() -> None:
    """The backbone moves late; each value has its reason in the header."""
    recipe, text = load.load("adapt"), header("adapt")
    train, optimizer = recipe.train, recipe.optimizer
    assert recipe.init.network == "weights"
    assert 0.0 < train.freeze_backbone_epochs < train.warmup_epochs < 0.2 * train.epochs
    assert train.warmup_epochs == 2 * train.freeze_backbone_epochs
    assert "Twice as long" in text
    for key in ("freeze_backbone_epochs", "warmup_epochs", "lr", "layer_decay", "weight_decay", "projector", "freeze"):
        assert re.search(rf"#   [\w., ]*\b{key}\b", text), key
    assert optimizer.layer_decay == 1.0
    assert f"{0.9**17:.3f}" in text  # a ResNet-50: the stem, 16 blocks, the head
    for overrides in re.findall(r"(--set .*)", text):
        load.load("adapt", overrides_in(overrides))
    (caution,) = cautions(recipe)
    assert "--init" in caution


def test_what_is_said_of_weights_without_any_is_cautioned_against() -> None:
    (caution,) = cautions(load.load("resnet50", ["init.partial=true", "init.heads=false"]))
    assert caution.startswith("init.heads and init.partial change nothing without weights; name weights")
    assert cautions(load.load("resnet50", ["init.partial=true", "init.weights=A"])) == []
