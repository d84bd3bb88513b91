from __future__ import annotations

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


def test_video_can_be_read_back(tmp_path, capfd):
    path = tmp_path / "videos" / "a game.mp4"
    with VideoWriter(path, (210, 160)) as writer:
        for frame in frames(30):
            writer.write(frame)
        assert writer.frames == 30
        assert not path.exists()
    writer.close()
    assert [file.name for file in path.parent.iterdir()] == ["a game.mp4"]
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
    monkeypatch.setattr(video, "_CODECS", ("XXXX",))

    def play():
        with VideoWriter(tmp_path / "x.mp4", (210, 160)) as writer:
            writer.write(next(frames(1)))

    with pytest.raises(EnvError, match=r"x\.mp4: OpenCV has no encoder for mp4"):
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
