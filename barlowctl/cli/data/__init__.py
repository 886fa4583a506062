"""`barlowctl data`: pack images, look at them, and bring the well-known data sets, one module each."""

from __future__ import annotations

import typer

from barlowctl.cli.data import get, info, pack, preview
from barlowctl.cli.help import Command, Group, examples

app = typer.Typer(
    cls=Group,
    help="Pack images for training, inspect them, bring data sets.",
    epilog=examples(
        "barlowctl data get fashion-mnist",
        "barlowctl data pack ~/photos my-photos",
        "barlowctl data preview --data my-photos",
    ),
    no_args_is_help=True,
)
app.command("pack", cls=Command, epilog=pack.EPILOG)(pack.pack)
app.command("info", cls=Command, epilog=info.EPILOG)(info.info)
app.command("preview", cls=Command, epilog=preview.EPILOG)(preview.preview)
app.command("get", cls=Command, epilog=get.EPILOG)(get.get)
