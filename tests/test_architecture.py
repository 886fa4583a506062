"""The house's rules on its own source: who imports whom, what is cheap, what never appears.

The rules are read off the syntax trees, imports inside functions included: a wall that is only held at
import time is no wall.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = CHECKOUT / "barlowctl"

# Part of the package -> the parts it imports, each of them: an arrow that nobody uses is not allowed. A part may always
# import itself, and everyone LEAVES. `data` is its modules that are in no folder of it; `distributed` is no leaf, for
# it imports torch.
LEAVES = {
    "amounts", "caches", "channels", "compilers", "cores", "criteria", "datasets", "errors", "files", "garbage",
    "launcher", "leaving", "locks", "memory", "output_paths", "own_code", "packages", "peers", "processor",
    "program", "quantities", "shell", "signals", "starting", "tables", "value_ranges", "waits",
}  # fmt: skip
DATA = {"data", "data.beton", "data.images", "data.loaders", "data.sources", "data.views"}
MAY_IMPORT = {
    "cli": {
        "assemble", "bench", "data", "data.beton", "data.images", "data.names", "data.sources", "data.tree",
        "distributed", "doctor", "eval", "exports", "launchers", "measure", "plots", "recipe", "runs", "study", "train",
    },
    "api": {
        "assemble", "compiled_code", "data", "data.beton", "data.images", "data.sources", "eval", "exports",
        "generators", "measure", "methods", "model", "recipe", "runs", "train",
    },  # what Python is offered, beside `cli`: neither knows the other
    "study": {
        "assemble", "data", "data.views", "eval", "generators", "measure", "model", "plots", "recipe", "runs", "train",
    },
    "bench": {
        "assemble", "data.beton", "data.loaders", "data.sources", "data.views", "generators", "methods", "model",
        "objective", "recipe", "train",
    },  # what is measured is a run, put together
    "measure": DATA | {
        "assemble", "data.names", "detect", "distributed", "eval", "exports", "generators", "methods", "model", "plots",
        "recipe", "report", "runs", "train",
    },
    "assemble": DATA | {
        "compiled_code", "data.tree", "detect", "distributed", "eval", "exports", "generators", "kernels", "launchers",
        "methods", "model", "modes", "plots", "recipe", "runs", "threads", "train",
    },
    "train": {"distributed", "generators", "kernel_cache", "kernels", "methods", "runs"},
    "methods": {"distributed", "objective"},
    "losses": {"distributed", "objective"},
    "objective": {"distributed"},
    "model": {"distributed", "kernels", "model.cpu", "modes", "own_gradients"},
    "model.cpu": {"kernel_cache", "kernels", "modes", "own_gradients"},
    "kernels": {"kernel_cache"},
    "exports": {"generators", "model"},
    "eval": {"data.images", "data.names", "modes"},
    "detect": {
        "data.images", "data.loaders", "data.names", "data.tree", "data.views", "distributed", "generators", "methods",
        "model", "modes", "plots",
    },
    "report": {"eval", "plots"},
    "launchers": {"distributed"},
    "doctor": {"compiled_code", "data.beton"},
    "data": DATA - {"data"} | {"data.names", "data.tree", "plots"},
    "data.loaders": {
        "data.beton", "data.images", "data.names", "data.sources", "data.views", "kernel_cache", "threads",
    },
    "data.views": {"kernel_cache"},
    "data.beton": {"data.images", "data.names", "data.sources", "data.tree", "kernel_cache"},
    "data.sources": {"data.images", "data.labels", "data.names", "data.tree"},
    "data.labels": {"data.images", "data.names", "data.tree"},
    "data.tree": {"data.images", "data.names"},
    "data.images": {"data.beton"},  # how large an image may be is what the packed file can hold
    "data.names": set(),
    "runs": {"data.names"},
    "recipe": set(),
    "plots": set(),
    "distributed": {"meeting"},
    "meeting": {"signs_of_life", "store_answer"},
    "amounts": set(),
    "compiled_code": set(),
    "caches": set(),
    "channels": set(),
    "compilers": set(),
    "cores": set(),
    "criteria": set(),
    "datasets": set(),
    "errors": set(),
    "files": set(),
    "garbage": set(),
    "generators": set(),
    "kernel_cache": set(),
    "launcher": {"errors", "shell"},
    "leaving": set(),
    "locks": set(),
    "memory": set(),
    "modes": set(),
    "output_paths": {"amounts", "errors", "files", "shell"},
    "own_code": {"errors", "shell"},
    "own_gradients": set(),
    "packages": {"errors"},
    "peers": set(),
    "processor": set(),
    "program": {"shell"},
    "quantities": set(),
    "shell": set(),
    "signals": set(),
    "signs_of_life": set(),
    "starting": {"program"},
    "store_answer": set(),
    "tables": set(),
    "threads": set(),
    "value_ranges": set(),
    "waits": set(),
    "__init__": {"api", "eval", "exports", "losses", "measure", "methods", "train"},  # when first asked for
    "__main__": {"cli"},
}  # fmt: skip
LOW_MEETS_HIGH = {("data.images", "data.beton")}
"""Arrows that run back up, each with its reason in the table."""
# Modules that may use nothing outside the standard library but what is named here, and LEAVES.
LIGHT = {
    "recipe": {"pydantic", "pydantic_core", "tomli_w"},
    "runs": set(),
    "data.names": set(),
    "train.events": {"pydantic"},
    "amounts": set(),
    "caches": set(),
    "channels": set(),
    "compilers": set(),
    "cores": set(),
    "criteria": set(),
    "datasets": set(),
    "errors": set(),
    "files": set(),
    "garbage": set(),
    "launcher": set(),
    "leaving": set(),
    "locks": set(),
    "memory": set(),
    "output_paths": set(),
    "own_code": set(),
    "packages": set(),
    "processor": set(),
    "quantities": set(),
    "plots.axis": set(),
    "plots.style": set(),
    "shell": set(),
    "signals": set(),
    "signs_of_life": set(),
    "starting": set(),
    "tables": set(),
    "value_ranges": set(),
    "waits": set(),
}
# What no module of barlowctl/cli may import at its top: `barlowctl --help` answers at once.
HEAVY = {
    "cv2", "ffcv", "matplotlib", "numba", "numpy", "PIL", "pydantic", "safetensors", "scipy", "sklearn",
    "tensorboard", "timm", "torch", "torchvision", "wandb",
}  # fmt: skip
# What only these modules call: an idea that many need is written once.
WRITTEN_ONCE = {
    "os.replace": {"files"},
    "os.fsync": {"files"},
    "fcntl.flock": {"locks"},
    "os.sched_getaffinity": {"cores"},
    "os.cpu_count": {"cores"},
    # Beside `signals`: processes that end when another one says so, and one whose outcome is settled.
    "signal.signal": {"signals", "bench.step_process", "cli.app", "data.loaders.plain"},
    "torch.random.fork_rng": {"generators"},
    # Where a run begins, and in the process of a benchmark's row: nobody's numbers are drawn after it but its own.
    "torch.manual_seed": {"assemble.job", "assemble.model", "bench.loss"},
}
MODULE_LINES, FUNCTION_LINES = 300, 60
# The longer ones, each one thing, with the reason. A module gives it in its first line.
LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "data.views.vector sum_lines": "writes one function of LLVM, whose parts name one another's values",
    "train.engine train": "is half signature and docstring: all that a training takes",
}
# Participles that say that something was done, and not what it is: `labels`, `matches`, `remaining`, `message` do. With
# their noun (`records_shown`, torch's `found_inf`) they are fine.
NOT_NAMES = {"asked", "found", "kept", "said", "shown", "told", "wanted"}
NOT_MODULE_NAMES = {"utils", "util", "misc", "helpers", "helper", "common"}


NOT_PARTS = {"advice", "dist", "docs", "gpu"}
"""Folders of tests that are of no part: advice of errors, several processes, pages and scripts, a CUDA device."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def scripts() -> list[Path]:
    """Python files beside the package, which keep to its words too."""
    return sorted(path for folder in ("tests", "docs", "benchmarks") for path in (CHECKOUT / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    """barlowctl/data/home.py is "data.home"; barlowctl/data/__init__.py is "data"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def part_of(module: str) -> str:
    """The part of a module: "train.engine" is of "train"; "data.beton.reader" of "data.beton", a part of its own."""
    first_two = ".".join(module.split(".")[:2])
    return first_two if first_two in MAY_IMPORT else module.split(".")[0]


@cache
def is_module(name: str) -> bool:
    """Whether a full name is one of this package's modules, or of its tests'."""
    path = CHECKOUT.joinpath(*name.split("."))
    return name.startswith(("barlowctl.", "tests.")) and (
        path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    )


@lru_cache(maxsize=1)
def parsed(source: str) -> ast.Module:
    """The tree of a source. Only the last is kept: those of all modules are 300 MB."""
    return ast.parse(source)


@lru_cache(maxsize=1)
def nodes(source: str) -> list[ast.AST]:
    """All nodes of a source."""
    return list(ast.walk(parsed(source)))


def imports(parts: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
    """Every imported module's full name and line. `from barlowctl import errors` is "barlowctl.errors"."""
    for node in parts:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            package = node.module or ""
            for alias in node.names:
                whole = f"{package}.{alias.name}"
                yield (whole if package == "barlowctl" or is_module(whole) else package), node.lineno


@cache
def imported(source: str) -> tuple[tuple[str, int], ...]:
    """`imports` of a source, which many rules ask for."""
    return tuple(imports(nodes(source)))


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at import; not those below `if TYPE_CHECKING`."""
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        statement = pending.pop()
        yield statement
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            pending.extend(statement.orelse)
        elif isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While | ast.ClassDef):
            pending.extend(child for child in ast.walk(statement) if isinstance(child, ast.Import | ast.ImportFrom))


def violations(source: str, module: str) -> list[str]:
    """What a module's imports break; empty when they are fine."""
    part, messages = part_of(module), []
    may_import = {part, "__version__"} | MAY_IMPORT[part] | (set() if part in LEAVES else LEAVES)
    for name, line in imported(source):
        root, _, rest = name.partition(".")
        target = part_of(rest)
        if root == "barlowctl":
            if target and target not in may_import:
                messages.append(f"{module}:{line} {part} imports {target}")
        elif root in {"typer", "click", "rich"} and part != "cli":
            messages.append(f"{module}:{line} imports {root} below cli")
        for light, allowed in LIGHT.items():
            inside = module == light or module.startswith(f"{light}.")
            if inside and root not in sys.stdlib_module_names | allowed | {"barlowctl"}:
                messages.append(f"{module}:{line} imports {root}")
    if part in {"cli", "__init__", "__main__"}:
        for statement in top_level(parsed(source)):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for name, line in imports(ast.walk(statement)):
                    if name.partition(".")[0] in HEAVY:
                        messages.append(f"{module}:{line} imports {name} at its top")
    return messages


def arrows() -> dict[str, set[str]]:
    """Which part imports which others, read off every module."""
    targets: dict[str, set[str]] = {part: set() for part in MAY_IMPORT}
    for path in modules():
        part = part_of(dotted(path))
        for name, _ in imported(path.read_text()):
            root, _, rest = name.partition(".")
            if root == "barlowctl" and rest:
                targets[part].add(part_of(rest))
        targets[part] -= {part, "__version__"}
    return targets


def reached(start: str) -> set[str]:
    """Everything that a part's modules import, and what that imports, imports inside functions included."""
    pending, seen = [module for module in map(dotted, modules()) if part_of(module) == start], set[str]()
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        path = PACKAGE.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for name, _ in imported(path.read_text()) if path.is_file() else ():
            root, _, rest = name.partition(".")
            pending.append(rest if root == "barlowctl" and rest else name)
    return seen


def prints(source: str) -> list[int]:
    """Lines that call print()."""
    if "print" not in source:
        return []
    return [
        node.lineno
        for node in nodes(source)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def test_there_are_modules_to_check() -> None:
    assert {"errors", "recipe.schema", "doctor"} <= {dotted(path) for path in modules()}


def lacks_docstring(source: str) -> bool:
    """Whether a module with anything in it does not say what it is."""
    return bool(source.strip()) and not ast.get_docstring(parsed(source))


RULES: dict[str, Callable[[str, str], object]] = {
    "walls": lambda source, module: part_of(module) in MAY_IMPORT and violations(source, module),
    "written once": lambda source, module: written_again(source, module),
    "method": lambda source, module: part_of(module) not in {"assemble", "recipe"} and method_questions(source),
    "print": lambda source, module: part_of(module) != "cli" and prints(source),
    "names": lambda source, module: names_that_say_nothing(source),
    "length": lambda source, module: long_functions(source, module),
    "docstring": lambda source, module: lacks_docstring(source),
}


@cache
def broken() -> dict[str, dict[str, Any]]:
    """Of each rule: the modules that break it, and where. The rules share a module's tree."""
    modules_of = {rule: dict[str, Any]() for rule in RULES}
    for path in modules():
        for rule, check in RULES.items():
            if faults := check(path.read_text(), dotted(path)):
                modules_of[rule][dotted(path)] = faults
    return modules_of


def test_every_part_is_in_the_table() -> None:
    parts = {part_of(dotted(path)) for path in modules()}
    assert parts <= MAY_IMPORT.keys(), "a new part of the package: say in MAY_IMPORT what it may import"


def test_imports_keep_the_walls() -> None:
    assert broken()["walls"] == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("objective.loss", "from barlowctl.model import backbone"),
        ("objective.loss", "def f():\n    import barlowctl.recipe.schema"),
        ("data.loaders.fast", "from barlowctl import recipe"),
        ("train.engine", "import rich"),
        ("eval.knn", "from typer import Exit"),
        ("recipe.load", "import torch"),
        ("train.events", "import numpy"),
        ("errors", "import pydantic"),
        ("cli.app", "import torch"),
        ("cli.app", "try:\n    from timm import create_model\nexcept ImportError:\n    pass"),
        ("assemble.job", "from barlowctl.measure import probing"),
        ("assemble.job", "from barlowctl.study import cells"),
        ("data.views.draws", "from barlowctl.data.loaders import plan"),
        ("data.tree.scan", "from barlowctl.data.sources.picture import Picture"),
        ("runs.history", "from barlowctl.distributed import ALONE"),
        ("runs.history", "import torch"),
    ],
)
def test_a_broken_wall_is_seen(module: str, source: str) -> None:
    assert violations(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "objective.loss",
            "import torch\nfrom barlowctl import distributed\nfrom barlowctl.errors import UserError",
        ),
        (
            "cli.pretrain",
            "import typer\ndef f():\n    import torch\n    from barlowctl.assemble import assemble",
        ),
        ("cli.app", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_every_arrow_of_the_table_is_used() -> None:
    used = arrows()
    assert {part: targets - used[part] for part, targets in MAY_IMPORT.items() if targets - used[part]} == {}


def test_no_arrow_runs_back_up() -> None:
    """Parts in an order in which each imports only those after it."""
    left = {part: targets - LEAVES for part, targets in MAY_IMPORT.items()}
    for low, high in LOW_MEETS_HIGH:
        left[low] = left[low] - {high}
    while left:
        lowest = {part for part, targets in left.items() if not targets & left.keys()}
        assert lowest, f"a circle among {sorted(left)}"
        left = {part: targets for part, targets in left.items() if part not in lowest}


def imported_by(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Which modules of the package each module imports, inside functions and for types too."""
    targets = {}
    for module, source in sources.items():
        names = {name.removeprefix("barlowctl.") for name, _ in imported(source)}
        targets[module] = (names & sources.keys()) - {module}
    return targets


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Not for types either: what a lower module asks of a higher one is a protocol of its own."""
    sources = {dotted(path): path.read_text() for path in modules()}
    list(graphlib.TopologicalSorter(imported_by(sources)).static_order())
    sources["files"] += "\nfrom barlowctl.recipe import load"
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(imported_by(sources)).static_order())


@pytest.mark.parametrize("part", ["recipe", "runs"])
def test_recipes_and_runs_are_read_without_torch(part: str) -> None:
    roots = {module.split(".")[0] for module in reached(part)}
    assert "errors" in roots
    assert not roots & ({"torch", "torchvision", "timm", "numba", "ffcv", "distributed"})
    own = [f"barlowctl.{dotted(path)}" for path in modules() if part_of(dotted(path)) == part]
    script = f"import sys, {', '.join(own)}; print(sorted({{'torch', 'numba', 'numpy'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CHECKOUT)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def written_again(source: str, module: str) -> list[str]:
    """Calls that belong to another module."""
    last = {name.rpartition(".")[2] for name in WRITTEN_ONCE}
    if not any(word in source for word in last):
        return []
    attributes = (node for node in nodes(source) if isinstance(node, ast.Attribute) and node.attr in last)
    return [name for name in map(ast.unparse, attributes) if name in WRITTEN_ONCE and module not in WRITTEN_ONCE[name]]


def test_what_many_need_is_written_once() -> None:
    assert broken()["written once"] == {}


def folders_of_tests() -> dict[str, set[Path]]:
    """Test files by the part in whose folder they are: tests/data/beton/test_reader.py is of "data.beton"."""
    folders: dict[str, set[Path]] = {}
    for path in (CHECKOUT / "tests").rglob("test_*.py"):
        parts = path.parent.relative_to(CHECKOUT / "tests").parts
        if parts and parts[0] not in NOT_PARTS:
            folders.setdefault(".".join(parts), set()).add(path)
    return folders


def parts_reached(path: Path) -> set[str]:
    """Parts of the package that a test's file imports, by itself or through other files of tests."""
    pending, seen, parts = [path], set[Path](), set[str]()
    while pending:
        path = pending.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        for name, _ in imported(path.read_text()):
            root, _, rest = name.partition(".")
            if root == "barlowctl" and rest:
                parts.add(part_of(rest))
            elif root == "tests":
                pending.append(CHECKOUT.joinpath(*name.split(".")).with_suffix(".py"))
    return parts


def test_tests_mirror_the_package() -> None:
    """A folder of the package that is a part has its folder of tests, and what is in it tests that part."""
    folders = folders_of_tests()
    assert folders.keys() == {part for part in MAY_IMPORT if PACKAGE.joinpath(*part.split(".")).is_dir()}
    for part, paths in folders.items():
        for path in paths:
            assert any(f"{reached}.".startswith(f"{part}.") for reached in parts_reached(path)), path


def test_what_is_written_again_is_seen() -> None:
    source = "import os\ndef f(a, b):\n    os.replace(a, b)"
    assert written_again(source, "train.sinks") == ["os.replace"]
    assert written_again(source, "files") == []
    assert written_again("with torch.random.fork_rng():\n    pass", "files") == ["torch.random.fork_rng"]


def test_results_that_a_study_reads_back_appear_whole() -> None:
    """A study's script that is killed goes on: half a measurement would count as one."""
    studies = sorted((CHECKOUT / "docs" / "study").glob("*.py"))
    assert len(studies) > 5
    assert [path.name for path in studies if ".write_text(json." in path.read_text(encoding="utf-8")] == []


@cache
def method_questions(source: str) -> list[int]:
    """Lines that ask which method a recipe names: matches of an objective, its name or `method`, and comparisons of
    one with a name that is written there (with another recipe's method is no such question)."""

    def is_method(node: ast.expr) -> bool:
        text = ast.unparse(node)
        return bool(re.search(r"\b(objective|method)(\.name|_name)?$", text))

    lines = []
    for node in nodes(source):
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others) if not any(
                isinstance(op, ast.Is | ast.IsNot) for op in ops
            ):
                sides = (left, *others)
                is_question = any(map(is_method, sides)) and any(
                    isinstance(node, ast.Constant) for side in sides for node in ast.walk(side)
                )
            case ast.Match(subject=subject):
                is_question = is_method(subject)
            case ast.Call(func=ast.Name(id="isinstance"), args=[one, *_]):
                is_question = is_method(one)
            case _:
                is_question = False
        if is_question:
            lines.append(node.lineno)
    return lines


def test_nobody_below_asks_which_method_it_is() -> None:
    assert broken()["method"] == {}


def test_the_match_over_methods_is_in_one_module() -> None:
    asking = {dotted(path) for path in modules() if method_questions(path.read_text())}
    assert asking <= {"assemble.methods", "recipe.objectives", "recipe.load"}


@pytest.mark.parametrize(
    "source",
    [
        "if method == 'simclr':\n    pass",
        "same = recipe.objective.name in ('moco', 'moco-v2')",
        "match recipe.objective:\n    case BarlowTwins():\n        pass",
        "if isinstance(recipe.objective, BarlowTwins):\n    pass",
        "if isinstance(method, BarlowTwins):\n    pass",
    ],
)
def test_a_question_for_the_method_is_seen(source: str) -> None:
    assert len(method_questions(source)) == 1


def test_the_core_never_prints() -> None:
    assert broken()["print"] == {}


def test_a_print_is_seen() -> None:
    assert prints("def f():\n    '''print(1)'''\n    print(2)") == [3]


def test_modules_are_named_for_what_they_are() -> None:
    assert [dotted(path) for path in modules() if path.stem in NOT_MODULE_NAMES] == []


def names_that_say_nothing(source: str) -> list[str]:
    """What is called by a word of NOT_NAMES alone: variables, attributes, arguments, functions and classes."""
    if not any(word in source.lower() for word in NOT_NAMES):
        return []
    names = []
    for node in nodes(source):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.append(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.append(name)
            case ast.alias(asname=str(name)):
                names.append(name)
    return [name for name in names if name.strip("_").lower() in NOT_NAMES]


def test_names_say_what_they_hold() -> None:
    assert broken()["names"] == {}


def test_names_of_tests_docs_and_benchmarks_say_what_they_hold() -> None:
    names = {
        str(path.relative_to(CHECKOUT)): names_that_say_nothing(path.read_text(encoding="utf-8")) for path in scripts()
    }
    assert names.keys() > {"tests/test_architecture.py", "docs/study/early.py", "benchmarks/gpu_check.py"}
    assert {path: of_file for path, of_file in names.items() if of_file} == {}


def test_pages_and_recipes_say_except() -> None:
    """`but for` must be read twice."""
    pages = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"]
    pages += [path for folder in ("docs", "recipes") for path in (CHECKOUT / folder).rglob("*.*")]
    texts = [path for path in (*modules(), *pages) if path.suffix in {".py", ".md", ".toml"}]
    assert len(texts) > len(modules()) + 60
    assert [path for path in texts if re.search(r"\bbut for\b", path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "for i, kept in pairs:\n    pass",
        "def f(*, wanted):\n    pass",
        "def _shown():\n    pass",
        "SAID = 'yes'",
        "self._asked = 1",
        "rows = [told for told in lines]",
        "if (found := f()):\n    pass",
        "match x:\n    case [found, *_]:\n        pass",
    ],
)
def test_a_name_that_says_nothing_is_seen(source: str) -> None:
    assert len(names_that_say_nothing(source)) == 1


def test_a_participle_with_its_noun_is_a_name() -> None:
    assert names_that_say_nothing("found_inf, records_shown = inputs.found, len(kept)") == []


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function; of a command, whose signature is its options and whose docstring is its help, the others."""
    is_command = any(
        argument.annotation is not None and ast.unparse(argument.annotation).startswith(("Annotated[", "options."))
        for argument in function.args.args
    )
    first = function.body[1 if ast.get_docstring(function) else 0].lineno if is_command else function.lineno
    assert function.end_lineno is not None
    return function.end_lineno - first + 1


def long_functions(source: str, module: str) -> set[str]:
    """Functions above the limit, as "module function"."""
    return {
        f"{module} {node.name}"
        for node in nodes(source)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and function_lines(node) > FUNCTION_LINES
    }


def test_modules_are_short() -> None:
    long = {dotted(path): path for path in modules() if len(path.read_text().splitlines()) > MODULE_LINES}
    assert long.keys() - LONG_MODULES.keys() == set(), "split it by noun"
    assert LONG_MODULES.keys() - long.keys() == set(), "it is short now: take it out of LONG_MODULES"
    for name, reason in LONG_MODULES.items():
        assert reason in long[name].read_text().splitlines()[0]


def test_functions_fit_a_screen() -> None:
    long = set[str]().union(*broken()["length"].values())
    assert long - LONG_FUNCTIONS.keys() == set(), "split it into functions that read well"
    assert LONG_FUNCTIONS.keys() - long == set(), "it is short now: take it out of LONG_FUNCTIONS"


def test_a_long_function_is_seen() -> None:
    body, command = "    x = 1\n" * 60, 'def f(\n    a: Annotated[int, "--a"] = 1,\n) -> None:\n    """Help."""\n'
    assert long_functions(f"def f():\n{body}", "m") == {"m f"}
    assert long_functions(f"def f():\n{body[:-10]}", "m") == set()
    assert long_functions(f"{command}{body}", "m") == set()
    assert long_functions(f"{command}{body}    x = 1\n", "m") == {"m f"}


def test_every_module_says_what_it_is() -> None:
    assert broken()["docstring"] == {}
    assert lacks_docstring("x = 1")
    assert not lacks_docstring("")


def test_the_command_line_starts_with_itself_alone() -> None:
    """No heavy package, and of this one nothing but the leaves, the table of export formats and what LIGHT names."""
    light = LEAVES | {"cli", "exports", *(module.split(".")[0] for module in LIGHT if "." in module)} - {"data"}
    modules_of_parts = sorted(f"barlowctl.{part}" for part in MAY_IMPORT.keys() - light)
    script = f"import sys, barlowctl.cli.app; print(sorted({{*{HEAVY!r}, *{modules_of_parts!r}}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
