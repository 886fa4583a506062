"""The option `--patches` of embed: feature maps of whole images as a file, and a picture of their components."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.cli.console import Console
from barlowctl.cli.embed_files import check_own
from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs, check_file, free

if TYPE_CHECKING:
    from barlowctl.assemble.data import ImageSet
    from barlowctl.assemble.machine import Runtime
    from barlowctl.data.images.unreadable import OnMeasuring, Problem
    from barlowctl.measure.subjects import Subject

FLAG = "--patches"
ENDINGS = (".safetensors", ".png")
COARSE = 8
"""Fewer places than this along a side show little of where something is."""


@dataclass(frozen=True)
class PatchOptions:
    """What was asked for: files, one of each kind, and of which maps."""

    paths: tuple[Path, ...]
    layer: int | None
    image_size: int | None
    images_drawn: int

    def __bool__(self) -> bool:
        return bool(self.paths)

    def check(self) -> None:
        """Refuse, before anything is computed, files that could not be written, and options without a use.

        Raises:
            UserError: see above.
        """
        for path in self.paths:
            if path.suffix not in ENDINGS:
                raise UserError(
                    f"{FLAG} is '{path}'",
                    allowed="a name that ends in .safetensors (the maps) or .png (a picture of them)",
                    next=shell.line("--patches", f"{path}.safetensors"),
                )
            check_file(path, FLAG)
            if path.suffix == ".safetensors" and os.path.lexists(path):
                raise UserError(f"'{path}' exists and is not overwritten", next=shell.line("--patches", free(path)))
        if len({path.suffix for path in self.paths}) < len(self.paths):
            raise UserError(
                f"{FLAG} was given twice for files of one kind", next="name one of each kind with --patches"
            )
        for name, value in (("--layer", self.layer), ("--image-size", self.image_size)):
            if value is not None and not self.paths:
                raise UserError(f"{name} {value} is of {FLAG}", next="--patches maps.safetensors")


def write_patches(
    console: Console,
    outputs: Outputs,
    options: PatchOptions,
    opened: Subject,
    source: ImageSet,
    split: str,
    runtime: Runtime,
    on_unreadable: OnMeasuring,
) -> tuple[dict[str, Any], list[Problem]]:
    """Compute the maps, write and draw them; what they are, and the images that have none.

    Raises:
        UserError: see `open_patch_features` and `extract_maps`.
    """
    from barlowctl.measure import patch_maps
    from barlowctl.measure.identity import identify, mark_png
    from barlowctl.measure.patch_features import open_patch_features
    from barlowctl.plots.images import save_image

    file = next((path for path in options.paths if path.suffix == ".safetensors"), None)
    picture = next((path for path in options.paths if path.suffix == ".png"), None)
    features = open_patch_features(
        opened, source, split, runtime, layer=options.layer, image_size=options.image_size, on_unreadable=on_unreadable
    )
    result = features.as_dict()
    identity = identify(opened, {split: source.fingerprint}, {"patches": result}).as_dict()
    if picture is not None:
        check_own([picture], identity["key"], FLAG)
    name = f" ({result['layer_name']})" if result["layer_name"] else ""
    console.say(
        f"maps of layer {result['layer']}{name} of 0 to {result['layers'] - 1}: "
        f"{counted(result['channels'], 'number')} every {counted(result['stride'], 'pixel')}; images resized to "
        f"{result['image_size']} pixels on the shorter side"
        + ("" if result["whole_images"] else ", their centre cut out: the network takes squares of that size only")
    )
    if (side := result["image_size"] // result["stride"]) < COARSE:
        finer = shell.line("--image-size", COARSE * result["stride"])
        console.say(
            f"note: maps have {counted(side, 'place')} along the shorter side; {finer} or an earlier --layer gives more"
        )
    metadata = patch_maps.metadata_of(opened, features, identity)
    drawn = options.images_drawn if picture is not None else 0
    count = source.num_samples if file is not None else min(drawn, source.num_samples)
    with console.progress("maps", count) as progress:
        images = patch_maps.extract_maps(features, file, drawn=drawn, metadata=metadata, advance=progress.advance)
    if file is not None:
        outputs.files.append(str(file))
        console.say(f"{counted(count - len(features.unreadable), 'map')} written to {file}")
    if picture is not None:
        drawing, shares = patch_maps.draw_components(features, images)
        with outputs.writing(picture, flag=FLAG):
            save_image(drawing, picture, pnginfo=mark_png(identity["key"]))
            console.say(
                f"{counted(len(images), 'image')} drawn to {picture}: red, green and blue are the first principal "
                "components, with " + ", ".join(f"{100 * share:.0f} %" for share in shares) + " of the variance"
            )
        result["explained"] = shares
    return {**result, "identity": identity}, features.unreadable
