"""The rooms of the house: what each may import, and that importing does nothing."""

import ast
import importlib
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from processes import ROOT, run, status_of
from training import AUDIO, arguments

import model

# What a room may import of the others; a longer name is a package or module that may import more.
ARROWS = {
    "cache": set(),
    "preprocess": {"cache"},
    "model": {"cache.schema"},
    "model.__main__": {"cache.command"},
    "model.weights": {"cache.files"},
    "train": {"cache", "model"},
    "evaluate": {"cache", "model", "train.record"},
    # Predictions for any clip, and sound with noise, need the preprocessing of training.
    "evaluate.predict": {"preprocess"},
    "evaluate.robustness": {"preprocess"},
}
ROOMS = [name for name in ARROWS if "." not in name]
# What a machine with a GPU needs for training.
LEAN = {"torch", "numpy", "h5py", "tqdm"}


def trees_of(*folders: str) -> dict[str, ast.Module]:
    """Every module by name, parsed."""
    trees = {}
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


HOUSE = trees_of(*ROOMS)


def imports(tree: ast.Module, *, top_level: bool = False) -> Iterator[tuple[str, str | None]]:
    """Module and name of each import; the name is None for a whole module."""
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole, None) if whole in HOUSE else (node.module, alias.name)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def defined_in(tree: ast.Module) -> set[str]:
    """The names that a module defines at its top level."""
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            inside = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
            names |= {each.id for each in inside if isinstance(each.ctx, ast.Store)}
    return names


@pytest.mark.parametrize("name", HOUSE)
def test_imports_follow_the_arrows_and_go_to_where_a_name_is_defined(name):
    allowed = {name.partition(".")[0]}
    allowed |= {arrow for room in ARROWS if is_within(name, room) for arrow in ARROWS[room]}
    for module, imported in imports(HOUSE[name]):
        if module.partition(".")[0] not in ROOMS:
            continue
        assert any(is_within(module, arrow) for arrow in allowed), f"imports {module}"
        if imported:
            names = defined_in(HOUSE[module]) | (set(model.__all__) if module == "model" else set())
            assert imported in names, f"imports {imported} from {module}, which does not define it"


def test_no_import_leads_back_in_a_circle():
    edges = {name: {module for module, _ in imports(tree)} for name, tree in HOUSE.items()}

    def visit(name, trail):
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        for other in edges[name] & set(HOUSE):
            visit(other, [*trail, name])

    for name in HOUSE:
        visit(name, [])


@pytest.mark.parametrize("room", ["cache", "model", "train"])
def test_training_needs_little(room):
    for name, tree in HOUSE.items():
        if is_within(name, room):
            others = {module.partition(".")[0] for module, _ in imports(tree, top_level=True)}
            assert others <= {*ROOMS, *LEAN, *sys.stdlib_module_names}, name


def test_importing_prints_nothing_and_changes_no_global_state():
    script = (
        "import os, random, sys, warnings, importlib, torch, numpy\n"
        # Imports of others do set warning filters and variables: do them first.
        "import librosa, cv2, facenet_pytorch, joblib, sklearn.metrics, matplotlib.pyplot\n"
        "state = lambda: (torch.initial_seed(), numpy.random.get_state()[1].tolist(),"
        " random.getstate(), torch.get_num_threads(), dict(os.environ), warnings.filters[:])\n"
        "before = state()\n"
        "import evaluate.cli\n"
        "assert not {'av', 'preprocess'} & set(sys.modules), 'a report needs no video'\n"
        f"[importlib.import_module(name) for name in {[n for n in HOUSE if '__main__' not in n]}]\n"
        "assert state() == before\n"
    )
    done = run("python", "-c", script)
    assert (done.stdout, done.stderr) == ("", "")


COMMANDS = [n for n, t in trees_of(*ROOMS, "benchmarks").items() if "main" in defined_in(t)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    main = importlib.import_module(name).main
    assert status_of(main, "--help") == 0
    assert status_of(main, "--no-such-option") == 2
    printed = capsys.readouterr()
    assert "usage: " in printed.out
    assert "error: " in printed.err


def lean_site(folder: Path, packages: Collection[str] = LEAN) -> Path:
    """A folder to import from that holds some packages and what they need, and nothing else."""
    wanted, seen = sorted(packages), set()
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in seen:
            continue
        seen.add(name)
        found = distribution(name)
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            link = folder / top
            if not link.is_symlink():
                link.symlink_to(found.locate_file(top))
        for text in found.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return folder


def test_training_needs_only_torch_numpy_h5py_and_tqdm(fold_cache, tmp_path):
    """In an interpreter that sees no other package: neither torchvision nor any of the extras."""
    (tmp_path / "site").mkdir()
    site = lean_site(tmp_path / "site")
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(site)!r}]\n"
        "from importlib.util import find_spec\n"
        "assert not any(map(find_spec, ('librosa', 'cv2', 'torchvision', 'tensorboard')))\n"
        "import model.__main__\n"
        "from train.cli import main; sys.exit(main(sys.argv[1:]))\n"
    )
    words = arguments(fold_cache, tmp_path, "--recipe", "modern")
    run(sys._base_executable, "-I", "-S", "-c", script, *words, folder=tmp_path)
    assert (tmp_path / AUDIO / "fold_0" / "predictions.csv").is_file()
