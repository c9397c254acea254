"""Draw a synthetic sample: clips named and coded as RAVDESS, without a photograph or a recording.

`python -m preprocess.sample --out DIR` writes `DIR/Actor_NN/01-01-EE-II-SS-RR-NN.mp4` (H.264
1280x720 at 30000/1001 frames a second, AAC 48 kHz stereo, 3.1 to 3.5 s), for trying the whole
pipeline where RAVDESS is not at hand. Accuracy on the sample says nothing of accuracy on RAVDESS.

Face and voice each tell four groups apart, and each pair of emotions that shares a face has two
different voices, so one modality alone reaches 50 % of the eight emotions and both together 100 %:

| face \\ voice | soft | flat | bright | tense |
|---|---|---|---|---|
| relaxed | calm | neutral | | |
| joyful | | | happy | surprised |
| distressed | sad | | | fearful |
| hostile | | disgust | angry | |

Within a group nothing tells the emotion: every draw depends on the group and on a generator of the
clip, seeded by the numbers of its name, and the length, the lips' rhythm and the framing are drawn
without a look at the emotion. Strong intensity exaggerates the display, except for the groups of
neutral ("relaxed" and "flat"): neutral has no strong clips, so that a stronger display would tell
its partner. The statement sets the order of the vowels, the repetition only the seed.

The same seed gives the same bytes, whatever the number of jobs and whichever clips are drawn.
"""

import argparse
import json
import sys
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from cache.files import atomic_path, write_json
from cache.ravdess import ACTORS, EMOTIONS, Clip, expected_clips
from preprocess import sample_acting, sample_face, sample_voice
from preprocess.decode import SAMPLE_COMMENT

VERSION = 1  # goes up whenever the same seed would give other bytes
SETTINGS = "sample.json"
FRAME_RATE = Fraction(30_000, 1_001)
DRAW_EVERY = 2  # frames a drawing is shown for, as cartoons are drawn "on twos": half the work
STRONG = 1.2
_WIDTH, _HEIGHT = sample_face.WIDTH, sample_face.HEIGHT


def choose_clips(actors: int, clips_per_actor: int, seed: int) -> list[Clip]:
    """The clips of actors 1..`actors`, `clips_per_actor` (1..60) each, sorted.

    Goes round the eight emotions until there are enough; an emotion with none left is passed over.
    Which statement, intensity and repetition come first is drawn for each actor and emotion, so
    that fewer clips are always a part of more.
    """
    chosen = []
    for actor in range(1, actors + 1):
        queues: dict[int, list[Clip]] = {}
        for clip in expected_clips(actor):
            queues.setdefault(clip.emotion, []).append(clip)
        ranked = []
        for emotion, queue in queues.items():
            order = np.random.default_rng([seed, actor, emotion]).permutation(len(queue))
            ranked += [(turn, queue[index]) for turn, index in enumerate(order)]
        chosen += [clip for _, clip in sorted(ranked)[:clips_per_actor]]
    return sorted(chosen)


def strength_of(clip: Clip, groups: tuple[str, ...]) -> float:
    """How much a clip exaggerates the display of its group; the groups of neutral never do."""
    if clip.intensity == 1 or groups[clip.label] == groups[EMOTIONS.index("neutral")]:
        return 1.0
    return STRONG


def _meet_actor(seed: int, actor: int) -> tuple[sample_face.Portrait, sample_voice.Voice]:
    face, voice = np.random.default_rng([seed, actor]).spawn(2)
    male = actor % 2 == 1
    look = sample_face.draw_look(face, male)
    return sample_face.paint_portrait(look), sample_voice.draw_voice(voice, male)


def _to_planes(rgb: np.ndarray, light: np.ndarray) -> list[np.ndarray]:
    """RGB or RGBA (H, W, 3 or 4) uint8 of even size -> Y (H, W), U and V (H/2, W/2) uint8, BT.601.

    `light` (256,) uint8 is laid over Y: the clip's brightness.
    """
    height, width = rgb.shape[:2]
    code = cv2.COLOR_RGB2YUV_I420 if rgb.shape[2] == 3 else cv2.COLOR_RGBA2YUV_I420
    packed = cv2.cvtColor(rgb, code)  # (3H/2, W)
    chroma = packed[height:].reshape(2, height // 2, width // 2)
    return [cv2.LUT(packed[:height], light), chroma[0], chroma[1]]


def draw_frames(
    portrait: sample_face.Portrait, poses: list[sample_face.Pose], rng: np.random.Generator
):
    """Yield a picture a pose, uint8 (1080, 1280): the planes of yuv420p one under the other.

    Each is drawn over the one before: only the head moves, so only the rectangle that it sweeps
    is drawn anew. `rng` draws how the clip is framed and lit.
    """
    look = portrait.look
    zoom = rng.uniform(0.97, 1.03)
    centre = np.array(look.centre_px) + rng.uniform(-12, 12, size=2)
    luma = np.arange(256) - 16
    light = np.clip(16 + luma * rng.uniform(0.95, 1.05), 0, 255).astype(np.uint8)

    framing = np.array([[zoom, 0, 0], [0, zoom, 0]])
    framing[:, 2] = centre - zoom * np.array(look.centre_px)
    body = cv2.warpAffine(
        portrait.body, framing, (_WIDTH, _HEIGHT), borderMode=cv2.BORDER_REPLICATE
    )
    moves = []
    for pose in poses:
        move = cv2.getRotationMatrix2D(portrait.origin, -pose.roll_deg, zoom * pose.scale)
        move[:, 2] += centre - portrait.origin + look.half_width_px * np.array([pose.x, pose.y])
        moves.append(move)
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
        for patch, back, new, weight in zip(
            patches, behind, _to_planes(head, light), (alpha, small, small), strict=True
        ):
            # Weights of 0..128, so that the product with a difference of bytes fits 16 bits.
            share = (weight.astype(np.int16) + 1) >> 1
            patch[...] = back + (((new - back) * share) >> 7)
        yield frame


def write_clip(clip: Clip, seed: int, path: Path) -> None:
    """Draw, speak and encode one clip into an mp4 file at `path`, which appears whole or not."""
    cv2.setNumThreads(1)
    portrait, voice = _meet_actor(seed, clip.actor)
    numbers = [int(part) for part in clip.clip_id.split("-")]
    timing, acting, lips, framing, sound = np.random.default_rng([seed, *numbers]).spawn(5)

    count = int(timing.integers(93, 106))
    seconds = np.arange(0, count, DRAW_EVERY) / float(FRAME_RATE)
    start_s = timing.uniform(0.3, 0.5)
    end_s = count / float(FRAME_RATE) - timing.uniform(0.12, 0.25)
    samples = round(count / FRAME_RATE * sample_voice.SAMPLE_RATE_HZ)
    face_group = sample_acting.FACE_GROUPS[clip.label]
    voice_group = sample_voice.VOICE_GROUPS[clip.label]
    opening = sample_voice.openness(clip.statement)
    speech = sample_acting.move_lips(seconds, start_s, end_s, opening, lips)
    face_strength = strength_of(clip, sample_acting.FACE_GROUPS)
    voice_strength = strength_of(clip, sample_voice.VOICE_GROUPS)
    poses = sample_acting.animate(face_group, face_strength, seconds, speech, acting)
    wave = sample_voice.speak(
        voice, voice_group, voice_strength, clip.statement, samples, start_s, end_s, sound
    )

    with (
        atomic_path(path) as temporary,
        av.open(temporary, "w", format="mp4", container_options={"fflags": "+bitexact"}) as mp4,
    ):
        mp4.metadata["comment"] = SAMPLE_COMMENT
        video = mp4.add_stream(
            "libx264",
            rate=FRAME_RATE,
            options={"preset": "ultrafast", "crf": "23", "threads": "1", "flags": "+bitexact"},
        )
        video.width, video.height, video.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        video.thread_count = 1
        video.codec_context.colorspace = 6  # BT.601, as _to_planes converts
        audio = mp4.add_stream(
            "aac",
            rate=sample_voice.SAMPLE_RATE_HZ,
            layout="stereo",
            options={"aac_coder": "fast", "flags": "+bitexact"},
        )
        audio.bit_rate = 128_000
        drawings = draw_frames(portrait, poses, framing)
        for index in range(count):
            if index % DRAW_EVERY == 0:
                picture = av.VideoFrame.from_ndarray(next(drawings), format="yuv420p")
                picture.time_base = 1 / FRAME_RATE
            picture.pts = index
            mp4.mux(video.encode(picture))
        mp4.mux(video.encode())
        tone = av.AudioFrame.from_ndarray(np.stack((wave, wave)), format="fltp", layout="stereo")
        tone.sample_rate, tone.pts = sample_voice.SAMPLE_RATE_HZ, 0
        tone.time_base = Fraction(1, sample_voice.SAMPLE_RATE_HZ)
        mp4.mux(audio.encode(tone))
        mp4.mux(audio.encode())


def _draw_into(out: Path, clip: Clip, seed: int) -> str | None:
    """Draw one clip into its actor's folder; the error as text, None when all went well."""
    path = clip_path(out, clip)
    try:
        path.parent.mkdir(exist_ok=True)
        write_clip(clip, seed, path)
    except (OSError, av.FFmpegError) as exc:
        return f"{path}: {exc}"
    return None


def clip_path(out: Path, clip: Clip) -> Path:
    """Where the sample in `out` keeps a clip, `out/Actor_NN/<clip_id>.mp4`, as RAVDESS does."""
    return out / f"Actor_{clip.actor:02d}" / f"{clip.clip_id}.mp4"


def _claim(out: Path, seed: int) -> str | None:
    """Mark `out` as a sample drawn with `seed`; the reason, as text, why it cannot be one."""
    settings = out / SETTINGS
    advice = "choose another --out or remove it"
    if not settings.exists():
        stranger = next(out.glob("Actor_*/*.mp4"), None)
        if stranger:
            return f"{out} holds {stranger.name} but no {SETTINGS}, so it is no sample: {advice}"
        write_json(settings, {"seed": seed, "version": VERSION})
        return None
    try:
        found = json.loads(settings.read_text(encoding="utf-8"))
        theirs = found["seed"], found["version"]
    except (ValueError, KeyError, TypeError):
        return f"{settings} cannot be read as the settings of a sample: {advice}"
    if theirs[0] != seed:
        return f"{out} holds a sample drawn with seed {theirs[0]}, asked for seed {seed}: {advice}"
    if theirs[1] != VERSION:
        return (
            f"{out} holds a sample of version {theirs[1]}, this program draws version {VERSION}: "
            f"{advice}"
        )
    return None


def _whole_number(low: int, high: int | None = None):
    """An argparse type: a whole number in `low`..`high`."""
    allowed = f"{low}..{high}" if high is not None else f"{low} or more"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number in {allowed}")
        return number

    return read


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.sample",
        description="Draw a synthetic sample of talking faces, named and coded as RAVDESS.",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write, as RAVDESS's"
    )
    parser.add_argument(
        "--actors",
        type=_whole_number(1, len(ACTORS)),
        default=len(ACTORS),
        metavar="N",
        help="draw actors 1..N (default: all 24)",
    )
    parser.add_argument(
        "--clips-per-actor",
        type=_whole_number(1, 60),
        default=16,
        metavar="N",
        help="clips of each actor, 1..60, spread over the emotions (default: 16)",
    )
    parser.add_argument(
        "--seed", type=_whole_number(0), default=0, metavar="S", help="another cast (default: 0)"
    )
    parser.add_argument(
        "--jobs", type=_whole_number(1), metavar="N", help="processes (default: the usable CPUs)"
    )
    options = parser.parse_args(argv)
    out: Path = options.out

    try:
        out.mkdir(parents=True, exist_ok=True)
        refusal = _claim(out, options.seed)
    except OSError as exc:
        print(f"error: {out} cannot be written: {exc}", file=sys.stderr)
        return 1
    if refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2

    clips = choose_clips(options.actors, options.clips_per_actor, options.seed)
    missing = [clip for clip in clips if not clip_path(out, clip).exists()]
    if not missing:
        print(f"sample complete: {len(clips)} clips in {out}, nothing to draw")
        return 0
    jobs = min(options.jobs or cpu_count(), len(missing))
    drawing = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_draw_into)(out, clip, options.seed) for clip in missing
    )
    bar = tqdm(drawing, total=len(missing), desc="sample", unit="clip")
    try:
        errors = sorted(error for error in bar if error)
    except KeyboardInterrupt:
        print("interrupted: what is drawn is kept, run again to go on", file=sys.stderr)
        return 1
    except BrokenProcessPool as exc:
        print(f"error: a drawing process died; run again to go on: {exc}", file=sys.stderr)
        return 1
    if errors:
        print(
            f"error: {len(errors)} of {len(missing)} clips failed, such as {errors[0]}",
            file=sys.stderr,
        )
        return 1
    kept = len(clips) - len(missing)
    print(f"sample complete: {len(clips)} clips in {out}, {len(missing)} drawn, {kept} kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
