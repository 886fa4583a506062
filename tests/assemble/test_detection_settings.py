"""Settings of detection: the paper's, the linear rule, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from barlowctl.assemble.detection_settings import MODEL_KEYS, PROTOCOL_KEYS, detection_settings
from barlowctl.errors import UserError
from barlowctl.recipe.detection import DETECTION_PROTOCOLS
from barlowctl.train.schedule import warmup_drops

OF_BOTH = "a table {train = ..., test = ...}, each a whole number from 1 to 2,147,483,647"


def rate(task: str, iteration: int, **options: Any) -> float:
    protocol = detection_settings(task, **options).protocol
    return protocol.lr * warmup_drops(
        iteration,
        warmup_steps=protocol.warmup_iterations,
        start_scale=protocol.warmup_start,
        drops=protocol.drops,
        factor=protocol.drop_factor,
    )


def test_the_papers_learning_rates() -> None:
    """Appendix C.2: VOC 24k iterations, 0.1, /10 at 18k and 22k, warm-up of 1000 from a third; COCO 90k, 0.03."""
    voc = {0: 0.0333, 500: 0.06665, 1000: 0.1, 17_999: 0.1, 18_000: 0.01, 22_000: 0.001, 23_999: 0.001}
    assert {i: rate("voc0712", i) for i in voc} == pytest.approx(voc)
    coco = {0: 3e-5, 1000: 0.03, 59_999: 0.03, 60_000: 0.003, 80_000: 0.0003}
    assert {i: rate("coco", i) for i in coco} == pytest.approx(coco)
    assert [DETECTION_PROTOCOLS[task].iterations for task in ("voc0712", "coco")] == [24_000, 90_000]
    assert DETECTION_PROTOCOLS["voc0712"].short_sides == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert DETECTION_PROTOCOLS["coco"].short_sides == (640, 672, 704, 736, 768, 800)


@pytest.mark.parametrize(("task", "masks"), [("voc0712", False), ("coco", True)])
def test_the_papers_other_values(task: str, masks: bool) -> None:
    """Of MoCo's configurations, which the paper follows."""
    protocol = detection_settings(task).protocol
    assert (protocol.batch_size, protocol.momentum, protocol.weight_decay) == (16, 0.9, 1e-4)
    assert (protocol.longest, protocol.test_short_side, protocol.flip) == (1333, 800, 0.5)
    assert (protocol.masks, protocol.statistics, protocol.precision) == (masks, 200, "fp32")


def test_a_smaller_batch_keeps_the_number_of_images() -> None:
    protocol = detection_settings("voc0712", batch_size=2).protocol
    assert (protocol.lr, protocol.iterations) == (0.0125, 192_000)
    assert (protocol.drops, protocol.warmup_iterations) == ((144_000, 176_000), 8000)
    assert rate("voc0712", 4000, batch_size=2) == pytest.approx(0.06665 / 8)


def test_what_is_named_stays_and_the_rest_moves_along() -> None:
    short = detection_settings("coco", iterations=900).protocol
    assert (short.drops, short.warmup_iterations, short.lr) == ((600, 800), 10, 0.03)
    longer = detection_settings("coco", iterations=180_000).protocol  # 2x, whose warm-up is that of 1x
    assert (longer.drops, longer.warmup_iterations) == ((120_000, 160_000), 1000)
    named = detection_settings("coco", batch_size=8, overrides=["lr=0.02", "drops=[5]"]).protocol
    assert (named.lr, named.drops, named.iterations) == (0.02, (5,), 180_000)


@pytest.mark.parametrize("text", ["iterations=900", "iterations=900.0", 'iterations="900"'])
def test_a_number_counts_however_it_is_written(text: str) -> None:
    """`iterations=900.0` left drops and warm-up where they were, and ended in a KeyError."""
    assert detection_settings("coco", overrides=[text]) == detection_settings("coco", iterations=900)


def test_values_of_the_model() -> None:
    settings = detection_settings(
        "coco", overrides=["rois_per_image=64", "proposals={train = 9, test = 8}", "extra_norm=false"]
    )
    assert settings.model.rois_per_image == 64
    assert settings.model.proposals is not None
    assert (settings.model.proposals.train, settings.model.proposals.test) == (9, 8)
    assert settings.model.extra_norm is False
    usual = detection_settings("coco")
    assert usual.as_dict() != settings.as_dict()
    assert usual.as_dict() == detection_settings("coco", recompute=True).as_dict()
    assert usual.as_dict() != detection_settings("coco", micro_batch=2).as_dict()


def test_devices_have_equally_many_images() -> None:
    settings = detection_settings("voc0712")
    assert [settings.images_per_device(devices) for devices in (1, 2, 8)] == [16, 8, 2]
    with pytest.raises(UserError, match="a batch of 16 images cannot be shared equally by 3 devices") as caught:
        settings.images_per_device(3)
    assert (caught.value.allowed, caught.value.next) == ("a multiple of 3", "--batch 15")


@pytest.mark.parametrize(
    ("options", "message", "next"),
    [
        ({"overrides": ["learning_rate=1"]}, "unknown detection value", "without --set=learning_rate=1"),
        ({"overrides": ["rois_per_imag=3"]}, "did you mean 'rois_per_image'", "--set rois_per_image=3"),
        ({"overrides": ["lr"]}, "unknown detection value 'lr'", "without --set=lr"),
        ({"overrides": ["lr=fast"]}, "--set lr=fast", "without --set=lr=fast"),
        ({"overrides": ["lr=-1"]}, "--set lr=-1", "without --set=lr=-1"),
        ({"overrides": ["rois_per_image=-3"]}, "--set rois_per_image=-3", "without --set=rois_per_image=-3"),
        ({"overrides": ["proposals=7"]}, "--set proposals=7", "without --set=proposals=7"),
        ({"overrides": ["short_sides=[]"]}, "--set short_sides=[]", "without '--set=short_sides=[]'"),
        *(
            ({"overrides": [text]}, f"--set {text}", f"--set={text}")
            for text in (
                "rois_per_image=0",
                "pooled=1",
                "foreground_rois=2",
                "score=nan",
                "nms=1.5",
                "detections=0",
                "batch_size=0",
                "anchor_sizes=[]",
                "aspect_ratios=[0]",
                "before_nms={train=5}",
                "proposals={train=0,test=9}",
            )
        ),
        ({"iterations": 5, "overrides": ["warmup_iterations=9"]}, "warmup_iterations=9", "--set=warmup_iterations=9"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str, next: str) -> None:
    with pytest.raises(UserError) as refused:
        detection_settings("coco", **options)
    assert message in refused.value.message
    assert refused.value.next is not None
    assert next in refused.value.next


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("short_sides=big", "a list of one or more, each a whole number from 1 to 2,147,483,647"),
        ("short_sides=[]", "a list of one or more, each a whole number from 1 to 2,147,483,647"),
        ("proposals=7", OF_BOTH),
        ("before_nms={train=5}", OF_BOTH),
        (
            "proposals={train=5,test=6,x=1}",
            OF_BOTH,
        ),
        (
            "before_nms={train=true,test=6}",
            OF_BOTH,
        ),
        ("short_sides=[480,true]", "a list of one or more, each a whole number from 1 to 2,147,483,647"),
        ("drops=[true]", "a list, each a whole number from 0 to 2,147,483,647"),
        ("iterations=true", "a whole number from 1 to 2,147,483,647"),
        ("batch_size=true", "a whole number from 1 to 2,147,483,647"),
        ("rois_per_image=true", "a whole number from 1 to 2,147,483,647"),
        ("anchor_sizes=[32,true]", "a list of one or more, each a number from 1 to 1,000,000"),
        ("test_every=1.5", "a whole number from 0 to 2,147,483,647"),
        ("masks=7", "true or false"),
    ],
)
def test_what_is_allowed_is_said_as_it_is_typed(text: str, allowed: str) -> None:
    with pytest.raises(UserError) as refused:
        detection_settings("coco", overrides=[text])
    assert (refused.value.message, refused.value.allowed) == (f"--set {text}", allowed)


@pytest.mark.parametrize("key", [*PROTOCOL_KEYS, *MODEL_KEYS])
def test_every_value_is_refused_with_all_that_it_takes(key: str) -> None:
    """Of a number both ends: pydantic's words name the one that was broken."""
    with pytest.raises(UserError) as refused:
        detection_settings("coco", overrides=[f"{key}=nan"])
    allowed = str(refused.value.allowed)
    assert "Input" not in allowed
    assert "number" not in allowed or re.search(r"(from|above) \S+ (to|below) \S+$", allowed)
