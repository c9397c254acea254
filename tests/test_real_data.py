"""On real RAVDESS clips, where they are at hand (CFNSR_REAL_DATA)."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from finished import finished_run
from training import CPU, fields_of, make_config

import model
from cache.ravdess import FULL_AV, SPEECH
from cache.reader import Cache
from evaluate.export.cli import main as export_main
from evaluate.shipped import files_of
from model.device import pick_precision
from model.inputs import Prepare
from preprocess.audio import mfcc
from preprocess.cli import main
from preprocess.clip import compute
from preprocess.landmarks import read_track
from preprocess.limits import ClipError
from preprocess.settings import RECORDING_LAG_S, Settings
from preprocess.windows import decode
from train.record import load_checkpoint
from train.trainer import Trainer


@pytest.fixture(scope="module")
def real_cache(real_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("real") / "cache"
    raw = real_data / "ravdess"
    assert main(["--raw", str(raw), "--cache", str(directory), "--jobs", "1"]) == 0
    return Cache(directory)


def test_the_full_av_clips_make_one_shard_and_the_video_only_clip_is_left_out(real_cache):
    assert [shard["file"] for shard in real_cache.manifest["shards"]] == ["actor_05.h5"]
    assert len(real_cache.clips) == 8
    assert {(clip.modality, clip.channel) for clip in real_cache.clips} == {(FULL_AV, SPEECH)}
    assert not any(record["notes"] for record in real_cache.manifest["clips"].values())


def test_faces_are_steady_and_of_one_size(real_cache):
    for clip in real_cache.clips:
        box = real_cache.read(clip.clip_id, "face_box")
        score = real_cache.read(clip.clip_id, "face_score")
        assert len(np.unique(box[:, 2:] - box[:, :2])) == 1
        assert 400 < box[0, 2] - box[0, 0] < 700
        assert np.abs(np.diff(box[:, :2], axis=0)).max() <= 12
        assert score[score > 0].min() > 0.99


def test_mfccs_agree_with_those_of_the_original_recordings(real_cache, real_data):
    """Waveforms correlate by 0.9997 or more, MFCCs (13 x 212 together) by 0.9986 or more.

    Single coefficients correlate less in quiet clips (0.80 at the least), because AAC drops the
    highest frequencies of near silence, where the logarithm makes much of little.
    """
    for clip in real_cache.clips:
        name = f"03{clip.clip_id[2:]}.flac"
        recording = (real_data / "ravdess_audio" / name).read_bytes()
        original = decode(recording, picture=False, sound_delay_s=RECORDING_LAG_S).waveform
        content = (real_data / "ravdess" / "Actor_05" / f"{clip.clip_id}.mp4").read_bytes()
        ours = decode(content, picture=False).waveform
        assert np.corrcoef(ours, original)[0, 1] > 0.9995, clip.clip_id
        coefficients = real_cache.read(clip.clip_id, "mfcc").ravel()
        assert np.corrcoef(coefficients, mfcc(original).ravel())[0, 1] > 0.998, clip.clip_id


def test_published_landmarks_lie_on_the_face_that_is_cropped(real_cache, real_data):
    content = (real_data / "openface" / "01-01-06-01-02-01-05.partial.csv").read_bytes()
    boxes, scores, _, _ = read_track(content).at(np.repeat([0, 93], 15))
    assert (scores == 1).all()
    crop = real_cache.read("01-01-06-01-02-01-05", "face_box")
    assert (boxes[:, :2] > crop[:, :2]).all()
    assert (boxes[:, 2:] < crop[:, 2:]).all()


@pytest.fixture(scope="module")
def two_kinds_of_points(real_data, tmp_path_factory):
    """Caches of the same clips: points by dlib, and the packed ones; and the CSVs of the latter."""
    folder = tmp_path_factory.mktemp("points")
    expand = [sys.executable, real_data / "expand.py", "landmarks", folder / "csv", "5"]
    subprocess.run(expand, check=True)
    caches = []
    for faces, points in (("mtcnn", "dlib"), ("landmarks", str(folder / "csv"))):
        made = ["--raw", str(real_data / "ravdess"), "--modality", "landmarks", "--faces", faces]
        made += ["--landmarks", points, "--cache", f"{folder}/cache_{len(caches)}", "--jobs", "1"]
        assert main(made) == 0
        caches.append(Cache(f"{folder}/cache_{len(caches)}"))
    return *caches, folder / "csv"


def test_points_by_dlib_are_near_the_packed_ones_and_frames_are_counted_alike(two_kinds_of_points):
    """Both are dlib's; it differs by 1.3 pixels in the mean from itself with its own detector."""
    dlib, packed, csv = two_kinds_of_points
    for clip_id in (clip.clip_id for clip in dlib.clips):
        apart = [cache.read(clip_id, "landmarks") for cache in (dlib, packed)]
        apart = np.linalg.norm(apart[0] - apart[1], axis=2)
        assert apart.mean() < 1.5
        assert apart.max() < 15
        track = read_track((csv / f"{clip_id}.csv").read_bytes())
        decoded = dlib.read(clip_id, "frame_index")
        np.testing.assert_array_equal(track.frame_index()[0], decoded)


def test_predictions_from_dlibs_points_and_from_packed_ones_agree(two_kinds_of_points):
    """By the weights that come with the project, of the fold that did not see actor 5."""
    network = load_checkpoint(files_of("cfn_sr")[1]).network()
    ours, packed = (
        network.probabilities(fields_of(cache, cache.clips, network.fields))
        for cache in two_kinds_of_points[:2]
    )
    assert (ours.argmax(dim=1) == packed.argmax(dim=1)).sum() >= 7  # of 8
    assert (ours - packed).abs().amax(dim=1).mean() < 0.12


@pytest.mark.parametrize("preset", ["paper", "tiny", "landmarks"])
def test_taking_the_attention_away_changes_the_logits_of_real_clips(
    preset, real_cache, two_kinds_of_points
):
    """By more than 0.3 of what the whole video changes (half, if it attends evenly).

    With the weights that come with the project, or at presets of pixels with fresh ones.
    """
    if preset == "landmarks":
        trained = load_checkpoint(files_of("cfn_sr")[1]).network()
        cache, net = two_kinds_of_points[0], trained.net
        inputs = trained.prepare(fields_of(cache, cache.clips, trained.fields))
    else:
        torch.manual_seed(0)
        net = model.build("cfn_sr", preset).eval()
        inputs = Prepare(*model.input_size(preset))(
            fields_of(real_cache, real_cache.clips[:2], ("frames", "mfcc"))
        )
    with torch.no_grad():
        video = net.video(inputs[0])
        net.video = torch.nn.Identity()  # so that it is encoded once
        whole = net(video, inputs[1])
        net.cross_modal.register_forward_hook(lambda block, given, made: (given[0], made[1]))
        no_attention = net(video, inputs[1])
        no_video = net(0 * video, inputs[1])
    share = (no_attention - whole).norm(dim=1) / (no_video - whole).norm(dim=1)
    assert share.min() > 0.3


OTHERS = {  # what becomes of clips of other makers: the side of the crop, or the reason
    "astorfi_sample_video.mp4": 269,
    "fer_woman2.mp4": "the file contains no audio track",
    "grid_bbaf2n.mpg": 171,
    "mmaction2_test.avi": 240,
    "pyfeat_no_face.mp4": "a face in 0 of 7 frames",
    "pyfeat_noface_face.mov": "a face in 0 of 7 frames",
    "pyfeat_single_face.mp4": "the video ends at 2.40 s",
    "retalk_1.mp4": 318,
    "retalk_4.mp4": 311,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_clip_of_another_maker_gives_a_crop_or_a_reason(real_data, name):
    content = (real_data / "faces" / name).read_bytes()
    if isinstance(OTHERS[name], str):
        with pytest.raises(ClipError, match=OTHERS[name]):
            compute(content, Settings())
    else:
        arrays, _ = compute(content, Settings())
        assert arrays["frames"].std() > 20
        side = arrays["face_box"][0, 2] - arrays["face_box"][0, 0]
        assert side == pytest.approx(OTHERS[name], rel=0.1)


def test_the_full_network_makes_a_training_step_on_two_real_clips(real_cache):
    precision = pick_precision("auto", CPU, heavy=True)
    config = make_config("cfn_sr", preset="paper", precision=precision, batch_size=2)
    clips = real_cache.clips[:2]
    trainer = Trainer(config, real_cache, clips, clips, device=CPU)
    before = trainer.net.head.weight.clone()
    started = time.perf_counter()
    totals = trainer.train_epoch()
    print(f"a step on two clips: {totals.mean_loss:.3f}, {time.perf_counter() - started:.1f} s")
    assert 0 < totals.mean_loss < 10
    assert not torch.equal(trainer.net.head.weight, before)


def test_an_exported_network_says_of_real_clips_what_torch_says(real_cache, tmp_path):
    run = finished_run(tmp_path, real_cache.directory, "cfn_sr", fold=1)
    given = ["--checkpoint", run / "last.pt", "--out", tmp_path / "model.onnx"]
    assert export_main([*map(str, given), "--cache", str(real_cache.directory)]) == 0
    card = (tmp_path / "model.md").read_text()
    assert "on clips of the fold's test actors (RAVDESS" in card
    assert "no interval, as there is one actor" in card
