from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from atari_fast.errors import CheckpointError, EnvError
from atari_fast.infra import video
from atari_fast.infra.video import VideoWriter

RED, BLUE = (200, 30, 20), (20, 40, 180)


def frames(count):
    """Left half red, right half blue, with a white bar that moves down."""
    for row in range(count):
        frame = np.empty((210, 160, 3), np.uint8)
        frame[:, :80], frame[:, 80:] = RED, BLUE
        frame[row : row + 10] = 255
        yield frame


def read(path):
    import cv2

    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(60)
    found = []
    while True:
        good, frame = capture.read()
        if not good:
            return found
        found.append(frame[:, :, ::-1])


def codec(path):
    import cv2

    number = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FOURCC))
    return number.to_bytes(4, "little").decode().lower()


@pytest.mark.parametrize(
    ("suffix", "starts"), [(".webm", b"\x1a\x45\xdf\xa3"), (".mp4", b"\0\0\0\x1cftyp")]
)
def test_videos_have_a_codec_that_browsers_play_and_the_name_of_what_they_are(
    tmp_path, suffix, starts
):
    path = tmp_path / f"x{suffix}"
    with VideoWriter(path, (210, 160)) as writer:
        for frame in frames(3):
            writer.write(frame)
    assert codec(path) in (("vp90",) if suffix == ".webm" else ("vp90", "h264", "avc1"))
    blob = path.read_bytes()
    assert blob.startswith(starts)
    assert b"webm" in blob[:64] or suffix == ".mp4"


@pytest.mark.parametrize("name", ["x.avi", "x", "x.png"])
def test_video_refuses_other_names(tmp_path, name):
    with pytest.raises(EnvError, match=r"expected a name ending in \.webm or \.mp4"):
        VideoWriter(tmp_path / name, (210, 160))


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_video_on_a_full_disk_is_one_sentence(tmp_path, suffix, share, capfd):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 210, 160, 3), dtype=np.uint8)

    def play():
        with VideoWriter(tmp_path / f"x{suffix}", (210, 160)) as writer:
            for frame in noise:
                writer.write(frame)

    play()
    size = (tmp_path / f"x{suffix}").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / f"x{suffix}").unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size), limits[1]))
    try:
        with pytest.raises(CheckpointError, match="is not whole; is the disk full"):
            play()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_video_can_be_read_back(tmp_path, capfd, suffix):
    path = tmp_path / "videos" / f"a game{suffix}"
    with VideoWriter(path, (210, 160)) as writer:
        for frame in frames(30):
            writer.write(frame)
        assert writer.frames == 30
        assert not path.exists()
    writer.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    found = read(path)
    assert len(found) == 30
    assert found[0].shape == (420, 320, 3)
    for index in (0, 29):
        np.testing.assert_allclose(found[index][300, 60], RED, atol=30)
        np.testing.assert_allclose(found[index][300, 260], BLUE, atol=30)
        assert found[index][2 * index + 8].mean() > 200
    assert capfd.readouterr() == ("", "")


def test_video_that_was_interrupted_leaves_nothing(tmp_path):
    def play():
        with VideoWriter(tmp_path / "x.mp4", (210, 160)) as writer:
            writer.write(next(frames(1)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play()
    assert list(tmp_path.iterdir()) == []


def test_video_without_a_frame_leaves_nothing(tmp_path):
    with VideoWriter(tmp_path / "x.mp4", (210, 160)) as writer:
        assert writer.frames == 0
    assert list(tmp_path.iterdir()) == []


def test_video_without_an_encoder_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(video._CODECS, ".mp4", ("XXXX",))

    def play():
        with VideoWriter(tmp_path / "x.mp4", (210, 160)) as writer:
            writer.write(next(frames(1)))

    with pytest.raises(EnvError, match=r"x\.mp4: OpenCV has no encoder for .mp4"):
        play()
    assert list(tmp_path.iterdir()) == []


def test_video_in_an_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "x.mp4", (210, 160))


@pytest.mark.parametrize(("size", "scale"), [((211, 160), 1), ((0, 160), 2), ((210, 160), 0)])
def test_video_refuses_sizes_that_encoders_do_not_take(tmp_path, size, scale):
    with pytest.raises(EnvError, match="expected sides that are even"):
        VideoWriter(tmp_path / "x.mp4", size, scale=scale)
    assert list(tmp_path.iterdir()) == []


def test_video_refuses_wrong_frames(tmp_path):
    with VideoWriter(tmp_path / "x.mp4", (210, 160)) as writer:
        writer.write(next(frames(1)))
        with pytest.raises(ValueError, match=r"expected uint8\(210, 160, 3\), got uint8\(84, 84\)"):
            writer.write(np.zeros((84, 84), np.uint8))
        with pytest.raises(ValueError, match="got float32"):
            writer.write(np.zeros((210, 160, 3), np.float32))
    assert len(read(tmp_path / "x.mp4")) == 1


class _Interrupted:
    """Finds no cv2: a signal in the middle of the import ends as an ImportError."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "cv2":
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as signal:
                raise ImportError("numpy failed to import") from signal


def test_an_interrupt_while_opencv_is_imported_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Interrupted(), *sys.meta_path])
    with pytest.raises(KeyboardInterrupt):
        VideoWriter(tmp_path / "game.webm", (16, 16))
    assert not list(tmp_path.iterdir())
