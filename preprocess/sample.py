"""Draws a synthetic sample: clips named and coded like RAVDESS, without any photo or recording.

`python -m preprocess.sample --out DIR` writes `DIR/Actor_NN/01-01-EE-II-SS-RR-NN.mp4` (H.264
1280x720 at 30000/1001 frames per second, AAC 48 kHz stereo, 3.1 to 3.5 s), to try the whole
pipeline without RAVDESS. Accuracy on the sample says nothing about accuracy on RAVDESS.

Face and voice each distinguish four groups, and each pair of emotions with the same face has two
different voices, so a single modality reaches 50 % on the eight emotions, and both reach 100 %:

| face \\ voice | soft | flat | bright | tense |
|---|---|---|---|---|
| relaxed | calm | neutral | | |
| joyful | | | happy | surprised |
| distressed | sad | | | fearful |
| hostile | | disgust | angry | |

Within a group, nothing reveals the emotion: the drawing depends on the group and on a random
generator seeded by the numbers of the clip's name; length, rhythm of the lips and framing do not
even depend on the group. Strong intensity exaggerates the display, except in the groups of neutral
("relaxed" and "flat"): neutral has no strong clips, so a stronger display would reveal its partner.
The statement sets the order of the vowels; the repetition changes only the seed.

The same seed gives the same bytes, for any number of jobs and any choice of clips.
"""

import argparse
import json
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path

import av
import cv2
import numpy as np
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from cache.command import FailedError, launch, positive, run
from cache.files import atomic_path, write_json
from cache.ravdess import ACTORS, EMOTIONS, Clip, expected_clips, sex
from preprocess import sample_acting, sample_face, sample_voice
from preprocess.dataset import SAMPLE_NAME
from preprocess.decode import SAMPLE_COMMENT

VERSION = 1  # increases whenever the same seed would give other bytes
FRAME_RATE = Fraction(30_000, 1_001)
DRAW_EVERY = 2  # each drawing is shown for two frames, as in cartoons: half the work
STRONG = 1.2
_WIDTH, _HEIGHT = sample_face.WIDTH, sample_face.HEIGHT


def choose_clips(actors: int, clips_per_actor: int, seed: int) -> list[Clip]:
    """The clips of actors 1..`actors`, `clips_per_actor` (1..60) each, sorted.

    One of each emotion in turn, until there are enough; the order of those of one emotion is random
    per actor. Fewer clips are a subset of more.
    """
    chosen = []
    for actor in range(1, actors + 1):
        ranked = []
        for emotion, group in groupby(expected_clips(actor), key=lambda clip: clip.emotion):
            queue = list(group)
            order = np.random.default_rng([seed, actor, emotion]).permutation(len(queue))
            ranked += [(turn, queue[index]) for turn, index in enumerate(order)]
        chosen += [clip for _, clip in sorted(ranked)[:clips_per_actor]]
    return sorted(chosen)


def display_of(clip: Clip, groups: tuple[str, ...]) -> tuple[str, float]:
    """The group of a clip, and how much it exaggerates: never in the group of neutral."""
    group = groups[clip.label]
    is_plain = clip.intensity == 1 or group == groups[EMOTIONS.index("neutral")]
    return group, 1.0 if is_plain else STRONG


def clip_path(out: Path, clip: Clip) -> Path:
    """The file of a clip in the sample `out`: `out/Actor_NN/<clip_id>.mp4`, as in RAVDESS."""
    return out / f"Actor_{clip.actor:02d}" / f"{clip.clip_id}.mp4"


@lru_cache(maxsize=2)  # of the actors whose clips come one after the other
def _make_actor(seed: int, actor: int) -> tuple[sample_face.Portrait, sample_voice.Voice]:
    face_rng, voice_rng = np.random.default_rng([seed, actor]).spawn(2)
    male = sex(actor) == "male"
    portrait = sample_face.paint_portrait(sample_face.draw_look(face_rng, male))
    return portrait, sample_voice.draw_voice(voice_rng, male)


def write_clip(clip: Clip, seed: int, path: Path) -> None:
    """Draw, speak and encode one clip; the mp4 file appears whole or not at all."""
    cv2.setNumThreads(1)
    portrait, voice = _make_actor(seed, clip.actor)
    # Each part has its own generator, so that a change in one does not change the others.
    numbers = [int(part) for part in clip.clip_id.split("-")]
    timing, acting, lips, framing, sound = np.random.default_rng([seed, *numbers]).spawn(5)
    count = int(timing.integers(93, 106))
    seconds = np.arange(0, count, DRAW_EVERY) / float(FRAME_RATE)
    start_s = timing.uniform(0.3, 0.5)
    span_s = start_s, count / float(FRAME_RATE) - timing.uniform(0.12, 0.25)

    opening = sample_voice.openness(clip.statement)
    speech = sample_acting.move_lips(seconds, span_s, opening, lips)
    group, strength = display_of(clip, sample_acting.FACE_GROUPS)
    poses = sample_acting.animate(group, strength, seconds, speech, acting)

    manner = sample_voice.delivery(*display_of(clip, sample_voice.VOICE_GROUPS))
    samples = round(count / FRAME_RATE * sample_voice.SAMPLE_RATE_HZ)
    wave = sample_voice.speak(voice, manner, clip.statement, samples, span_s, sound)
    with atomic_path(path) as temporary:
        _encode(temporary, count, draw_frames(portrait, poses, framing), wave)


def draw_frames(
    portrait: sample_face.Portrait, poses: list[sample_face.Pose], rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield one picture per pose, uint8 (1080, 1280): the planes of yuv420p, one above the other.

    Only the head moves, so only the rectangle that it sweeps is drawn again, into the same array.
    Framing and light are random.
    """
    look = portrait.look
    zoom = rng.uniform(0.97, 1.03)
    center = np.array(look.center_px) + rng.uniform(-12, 12, size=2)
    luma = np.arange(256) - 16
    light = np.clip(16 + luma * rng.uniform(0.95, 1.05), 0, 255).astype(np.uint8)

    # Where the body and, for each pose, the head go.
    framing = np.array([[zoom, 0, 0], [0, zoom, 0]])
    framing[:, 2] = center - zoom * np.array(look.center_px)
    size = (_WIDTH, _HEIGHT)
    body = cv2.warpAffine(portrait.body, framing, size, borderMode=cv2.BORDER_REPLICATE)
    moves = []
    for pose in poses:
        move = cv2.getRotationMatrix2D(portrait.origin, -pose.roll_deg, zoom * pose.scale)
        move[:, 2] += center - portrait.origin + look.half_width_px * np.array([pose.x, pose.y])
        moves.append(move)

    # The rectangle that the head sweeps, at even pixels, because chroma has half the resolution.
    height, width = portrait.head.shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]).T
    swept = np.concatenate([move @ corners for move in moves], axis=1)  # (2, 4 T)
    left, top = (max(0, int(low) // 2 * 2 - 2) for low in swept.min(axis=1))
    right = min(_WIDTH, int(swept[0].max()) // 2 * 2 + 4)
    bottom = min(_HEIGHT, int(swept[1].max()) // 2 * 2 + 4)

    planes = _to_planes(body, light)
    frame = np.concatenate([plane.ravel() for plane in planes]).reshape(-1, _WIDTH)
    chroma = frame[_HEIGHT:].reshape(2, _HEIGHT // 2, _WIDTH // 2)
    patches = [frame[top:bottom, left:right]]
    patches += [plane[top // 2 : bottom // 2, left // 2 : right // 2] for plane in chroma]
    behind = [patch.astype(np.int16) for patch in patches]
    size = (right - left, bottom - top)
    for pose, move in zip(poses, moves, strict=True):
        move[:, 2] -= left, top
        head = sample_face.render(portrait, pose)
        head = cv2.warpAffine(head, move, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.extractChannel(head, 3)
        small = cv2.resize(alpha, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        layers = zip(patches, behind, _to_planes(head, light), (alpha, small, small), strict=True)
        for patch, back, new, weight in layers:
            # Weights are 0..128, so that their product with a difference of bytes fits 16 bits.
            share = (weight.astype(np.int16) + 1) >> 1
            patch[...] = back + (((new - back) * share) >> 7)
        yield frame


def _to_planes(rgb: np.ndarray, light: np.ndarray) -> list[np.ndarray]:
    """RGB or RGBA (H, W, 3 or 4) uint8 of even size -> Y (H, W), mapped by `light`, U and V."""
    height, width = rgb.shape[:2]
    code = cv2.COLOR_RGB2YUV_I420 if rgb.shape[2] == 3 else cv2.COLOR_RGBA2YUV_I420
    packed = cv2.cvtColor(rgb, code)  # BT.601, (3H/2, W)
    chroma = packed[height:].reshape(2, height // 2, width // 2)
    return [cv2.LUT(packed[:height], light), chroma[0], chroma[1]]


def _encode(path: Path, count: int, drawings: Iterator[np.ndarray], wave: np.ndarray) -> None:
    """Write an mp4 of `count` frames: the same bytes on every run."""
    with av.open(path, "w", format="mp4", container_options={"fflags": "+bitexact"}) as mp4:
        mp4.metadata["comment"] = SAMPLE_COMMENT
        options = {"preset": "ultrafast", "crf": "23", "threads": "1", "flags": "+bitexact"}
        video = mp4.add_stream("libx264", rate=FRAME_RATE, options=options)
        video.width, video.height, video.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        video.thread_count = 1
        video.codec_context.colorspace = 6  # BT.601, as in _to_planes
        rate_hz = sample_voice.SAMPLE_RATE_HZ
        options = {"aac_coder": "fast", "flags": "+bitexact"}
        audio = mp4.add_stream("aac", rate=rate_hz, layout="stereo", options=options)
        audio.bit_rate = 128_000
        for index in range(count):
            if index % DRAW_EVERY == 0:
                picture = av.VideoFrame.from_ndarray(next(drawings), format="yuv420p")
                picture.time_base = 1 / FRAME_RATE
            picture.pts = index
            mp4.mux(video.encode(picture))
        mp4.mux(video.encode())
        tone = av.AudioFrame.from_ndarray(np.stack((wave, wave)), format="fltp", layout="stereo")
        tone.sample_rate, tone.pts, tone.time_base = rate_hz, 0, Fraction(1, rate_hz)
        mp4.mux(audio.encode(tone))
        mp4.mux(audio.encode())


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.sample",
        description="Generate a synthetic sample of talking faces with RAVDESS file names.",
    )
    add = partial(parser.add_argument, metavar="N", type=int)
    most = len(expected_clips(1))
    add("--out", metavar="DIR", type=Path, required=True, help="folder for the sample")
    add("--actors", choices=ACTORS, default=24, help="number of actors (default: 24)")
    spread = f"clips per actor, 1..{most}, spread over the emotions (default: 16)"
    add("--clips-per-actor", choices=range(1, most + 1), default=16, help=spread)
    add("--seed", metavar="S", default=0, help="random seed, 0 or more (default: 0)")
    add("--jobs", type=positive, default=cpu_count(), help="worker processes (default: 1 per CPU)")
    args = parser.parse_args(argv)
    return run(lambda: _draw_sample(args), extras="features")


def _draw_sample(args: argparse.Namespace) -> int:
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}, expected 0 or more")
    clips = choose_clips(args.actors, args.clips_per_actor, args.seed)
    _claim(args.out, args.seed)
    missing = [clip for clip in clips if not clip_path(args.out, clip).exists()]
    jobs = min(args.jobs, max(1, len(missing)))
    drawing = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_draw_clip)(args.out, clip, args.seed) for clip in missing
    )
    try:
        errors = list(filter(None, tqdm(drawing, "sample", len(missing), unit="clip")))
    except BrokenProcessPool as exc:
        raise FailedError(f"a worker process died ({exc}). Run again to resume") from exc
    if errors:
        raise FailedError(f"{len(errors)} of {len(missing)} clips failed: {min(errors)}")
    kept = len(clips) - len(missing)
    print(f"the sample in {args.out} is complete: {len(missing)} clips generated, {kept} kept")
    return 0


def _claim(out: Path, seed: int) -> None:
    """Mark `out` as a sample drawn with `seed`; ValueError if it is something else."""
    out.mkdir(parents=True, exist_ok=True)
    marker, advice = out / SAMPLE_NAME, "Choose another --out, or remove it"
    wanted = {"seed": seed, "version": VERSION}
    if marker.exists():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise ValueError(f"{marker} is not a valid sample file ({exc}). {advice}") from exc
        if found != wanted:
            raise ValueError(f"{out} has a sample of {found}, expected {wanted}. {advice}")
    elif stranger := next(out.glob("Actor_*/*.mp4"), None):
        raise ValueError(f"{out} contains {stranger.name}, which is not part of a sample. {advice}")
    else:
        write_json(marker, wanted)


def _draw_clip(out: Path, clip: Clip, seed: int) -> str | None:
    """Draw one clip into the folder of its actor; returns why it failed, or None."""
    path = clip_path(out, clip)
    try:
        path.parent.mkdir(exist_ok=True)
        write_clip(clip, seed, path)
    except (OSError, av.FFmpegError) as exc:
        return f"{path}: {exc}"
    return None


if __name__ == "__main__":
    launch("preprocess.sample", "features")
