"""The picture of the packages in docs/overview.md is the one that the code's imports draw."""
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSIDE = ("data", "models", "options", "util")
FOLDERS = {"duiit": "duiit", "duiit_cli": "duiit_cli", **{f"duiit.{n}": n for n in INSIDE}}
FLAT = ("duiit.options", "duiit.util")          # one box in the picture, whatever stands in them


def modules():
    """{dotted name: file} of everything that is installed."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(p for p in parts if p != "__init__")])] = file
    return found


MODULES = modules()


def box(name):
    """The box of the picture in which a module stands: its package, whole folders of which are drawn as one."""
    for package in FLAT:
        if name == package or name.startswith(f"{package}."):
            return package
    return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]


def imported(name):
    """Modules that one imports, anywhere in its code. `from package import thing`: the thing, where it is a module."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}, line {node.lineno}: imports are absolute here"
            for alias in node.names:
                found = f"{node.module}.{alias.name}"
                yield from [found] if found in MODULES else [node.module] if node.module in MODULES else []


def drawn():
    """{box: height}: the lines of the picture, the lowest 0."""
    text = (ROOT / "docs" / "overview.md").read_text(encoding="utf-8")
    lines = text.split("```imports\n")[1].split("```")[0].strip().splitlines()
    return {name: height for height, line in enumerate(reversed(lines)) for name in line.split()}


def test_every_package_is_in_the_picture():
    assert set(drawn()) == {box(name) for name in MODULES}


def test_an_import_only_goes_down():
    heights = drawn()
    wrong = [f"{name} imports {other}" for name in MODULES for other in imported(name)
             if box(other) != box(name) and heights[box(other)] >= heights[box(name)]]
    assert not wrong


def test_no_circle_among_modules():
    arrows = {name: set(imported(name)) - {name} for name in MODULES}
    done, path = set(), []

    def follow(name):
        assert name not in path, " -> ".join([*path[path.index(name):], name])
        if name not in done:
            path.append(name)
            for other in arrows[name]:
                follow(other)
            path.pop()
            done.add(name)

    for name in MODULES:
        follow(name)


def test_nothing_is_imported_by_the_toolkits_bare_names():
    """They belong to whoever's project DUIIT is used in."""
    for folder in (*FOLDERS.values(), "benchmarks", "examples", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            if "plugins" in file.parts:
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [node.module] if isinstance(node, ast.ImportFrom) else \
                    [a.name for a in node.names] if isinstance(node, ast.Import) else []
                assert not {n.partition(".")[0] for n in names if n} & {"data", "models", "options", "util"}, file
