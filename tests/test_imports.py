"""The rooms of the house: who may import whom, and that importing does nothing."""

import ast
import subprocess
import sys
from collections.abc import Collection
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cache.extras import lack

ROOT = Path(__file__).parent.parent
ROOMS = ("cache", "preprocess", "model", "train", "evaluate")
MAY_IMPORT = {
    "cache": set(),
    "model": set(),
    "preprocess": {"cache"},
    "train": {"cache", "model"},
    "evaluate": {"cache", "model"},
}
# Predictions, and sound with noise in it, need the same preprocessing as training.
EXCEPTIONS = {"evaluate/predict": {"preprocess"}, "evaluate/robustness": {"preprocess"}}
# What the GPU boxes have.
LEAN = {"torch", "numpy", "h5py", "tqdm"}

FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """The first names of everything that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(path):
    folder = path.relative_to(ROOT).parent.as_posix()
    room = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[room] | {room} | EXCEPTIONS.get(folder, set())
    assert imported(path) & set(ROOMS) <= allowed


def test_only_a_package_of_others_is_an_extra():
    others = ModuleNotFoundError("No module named 'av'", name="av")
    assert lack(others, "features") == "error: this needs av: pip install '.[features]'"
    ours = ModuleNotFoundError("No module named 'evaluate.runs'", name="evaluate.runs")
    with pytest.raises(ModuleNotFoundError, match=r"evaluate\.runs"):
        lack(ours, "report")


def test_every_folder_of_modules_is_a_package_that_is_installed():
    for folder in {path.parent for path in FILES}:
        assert (folder / "__init__.py").is_file(), folder


@pytest.mark.parametrize("room", ["cache", "model", "train"])
def test_gpu_boxes_need_little(room):
    for path in (ROOT / room).rglob("*.py"):
        others = imported(path, top_level_only=True) - set(ROOMS) - LEAN
        assert others <= set(sys.stdlib_module_names), f"{path} imports {others}"


def test_no_import_leads_back_in_a_circle():
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    edges = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        edges[name] = {
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module in modules
        }

    def visit(name, trail):
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        for other in edges[name]:
            visit(other, [*trail, name])

    for name in modules:
        visit(name, [])


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_prints_nothing_and_changes_no_global_state(room):
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if path.relative_to(ROOT).parts[0] == room and path.name != "__main__.py"
    ]
    script = (
        "import os, random, warnings, importlib, torch, numpy\n"
        # Others' imports do set warning filters and variables: have them done with.
        "import librosa, cv2, facenet_pytorch, joblib, sklearn.metrics\n"
        "state = lambda: (torch.initial_seed(), numpy.random.get_state()[1].tolist(),"
        " random.getstate(), torch.get_num_threads(), dict(os.environ), warnings.filters[:])\n"
        "before = state()\n"
        f"[importlib.import_module(name) for name in {names!r}]\n"
        "assert state() == before\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


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


def test_a_report_needs_no_libraries_of_video_and_sound():
    code = (
        "import sys, evaluate.cli\n"
        "assert not {'av', 'cv2', 'librosa', 'soxr', 'preprocess'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_training_needs_torch_numpy_h5py_and_tqdm_alone(fold_cache, tmp_path):
    """In an interpreter that sees no other package: neither torchvision nor any of the extras."""
    (tmp_path / "site").mkdir()
    site = lean_site(tmp_path / "site")
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(site)!r}]\n"
        "from importlib.util import find_spec\n"
        "assert not any(map(find_spec, ('librosa', 'cv2', 'torchvision', 'tensorboard')))\n"
        "import cache, model, train, model.__main__, model.weights\n"
        "from train.cli import main; sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = [*("--cache", fold_cache, "--runs", tmp_path / "runs", "--fold", 0)]
    arguments += ["--epochs", 1, "--preset", "tiny", "--device", "cpu", "--recipe", "modern"]
    done = subprocess.run(
        [sys._base_executable, "-I", "-S", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "cfn_sr" / "fold_0" / "predictions.csv").is_file()
