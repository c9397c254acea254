"""Another shape in cache/schema.py is another shape everywhere, from the cache to predictions."""

import shutil

from processes import ROOT, run

SCRIPT = """
from pathlib import Path

import torch
from noise import write_noise_cache
from training import checkpoint_of, fields_of, train

import cache
import model
from cache.ravdess import expected_clips
from cache.reader import Cache
from model.__main__ import one_clip

assert Path(cache.__file__).is_relative_to(Path.cwd())
clips = [clip for actor in (1, 5, 6) for clip in expected_clips(actor)[:8:4]]
directory = write_noise_cache(Path("features"), clips)
opened = Cache(directory)
for name in ("audio_mfcc_cnn", "cfn_sr"):
    assert train(directory, Path("runs"), "--model", name, "--recipe", "modern") == 0
    trained = checkpoint_of(Path("runs"), name).network()
    fields = fields_of(opened, opened.clips[:1], trained.fields)
    assert trained.probabilities(fields).sum(dim=1).allclose(torch.ones(1))
    print({field: tuple(tensor.shape) for field, tensor in fields.items()})
with torch.device("meta"):
    for preset in model.PRESETS:
        for name in model.names(preset):
            assert model.build(name, preset).eval()(*one_clip(name, preset)).shape == (1, 8)
"""


def test_training_and_prediction_follow_the_shapes_of_the_schema(tmp_path):
    """In a copy of the project with other lines in the schema, and an interpreter of its own."""
    for package in ("cache", "model", "train"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    schema = tmp_path / "cache" / "schema.py"
    text = schema.read_text()
    for name, old, new in (("FRAME_COUNT", 30, 16), ("MFCC_COUNT", 13, 20)):
        assert text.count(f"\n{name} = {old}\n") == 1
        text = text.replace(f"\n{name} = {old}\n", f"\n{name} = {new}\n")
    schema.write_text(text)
    paths = f"{tmp_path}:{ROOT / 'tests'}"
    printed = run("python", "-c", SCRIPT, folder=tmp_path, PYTHONPATH=paths).stdout
    assert "'frames': (1, 16, 224, 224, 3)" in printed
    assert printed.count("'mfcc': (1, 20, 212)") == 2
