from __future__ import annotations

import errno
import json
import math
import os
import resource
import subprocess
import sys
import warnings

import numpy as np
import pytest

from atari_fast.errors import CheckpointError
from atari_fast.infra.logging import RunLogger, read_metrics


def test_metrics_are_appended_line_by_line(tmp_path):
    directory = tmp_path / "a run"
    with RunLogger(directory, tensorboard=False) as logger:
        logger.scalars(400, {"loss/td": 0.5, "train/episodes": 3})
        assert [row["frames"] for row in read_metrics(directory)] == [400]
        logger.scalars(800, {"eval/mean": np.float32(20.5), "train/episodes": np.int64(4)})
    with RunLogger(directory, tensorboard=False) as logger:
        logger.scalars(1200, {"seconds": 7.5, "epsilon": math.nan, "loss/td": math.inf})
    rows = read_metrics(directory)
    assert [row.pop("frames") for row in rows] == [400, 800, 1200]
    assert 0 <= rows[0].pop("seconds") <= rows[1].pop("seconds") < 60
    assert rows == [
        {"loss/td": 0.5, "train/episodes": 3},
        {"eval/mean": 20.5, "train/episodes": 4},
        {"seconds": 7.5, "epsilon": None, "loss/td": None},
    ]


def test_torn_last_line_is_left_out_and_written_over(tmp_path):
    with RunLogger(tmp_path, tensorboard=False) as logger:
        logger.scalars(4, {"x": 1.0})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    for torn in (b'{"frames": 8, "x', b"{", b'{"frames": 8}'[:-1], b"\xff" * 70_000):
        path.write_bytes(whole + torn)
        assert [row["frames"] for row in read_metrics(tmp_path)] == [4]
        RunLogger(tmp_path, tensorboard=False).close()
        assert path.read_bytes() == whole
    path.write_bytes(b"x" * 70_000)
    RunLogger(tmp_path, tensorboard=False).close()
    assert path.read_bytes() == b""


def test_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"frames": 4}\n[]\n{"frames": 8}\n')
    with pytest.raises(CheckpointError, match="line 2 is damaged"):
        read_metrics(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read: no such file"):
        read_metrics(tmp_path / "missing")


def test_unwritable_directory_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written: not a directory"):
        RunLogger(tmp_path / "file" / "run", tensorboard=False)


def test_full_disk_costs_one_warning_and_no_half_line(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunLogger(tmp_path, tensorboard=False) as logger:
        logger.scalars(4, {"x": 1.0})
        size = (tmp_path / "metrics.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.warns(RuntimeWarning, match=r"metrics are being lost.*training goes on"):
                logger.scalars(8, {"x": 1.0})
            logger.scalars(12, {"x": 1.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        logger.scalars(16, {"x": 1.0})
    assert [row["frames"] for row in read_metrics(tmp_path)] == [4, 16]
    assert (tmp_path / "metrics.jsonl").read_bytes().count(b"\n") == 2


def test_half_a_line_that_cannot_be_cut_off_is_cut_off_later(tmp_path, monkeypatch):
    with RunLogger(tmp_path, tensorboard=False) as logger:
        logger.scalars(4, {"x": 1.0})

        def cut(file, size):
            raise OSError(errno.EIO, "Input/output error")

        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", cut)
            patch.setattr(os, "write", lambda file, line: write(file, line[:-5]))
            with pytest.warns(RuntimeWarning, match="no space left"):
                logger.scalars(8, {"x": 1.0})
        logger.scalars(12, {"x": 1.0})
        assert logger.size == (tmp_path / "metrics.jsonl").stat().st_size
    assert [row["frames"] for row in read_metrics(tmp_path)] == [4, 12]


def test_tensorboard_gets_scalars_by_frames(tmp_path):
    with RunLogger(tmp_path, tensorboard=True) as logger:
        logger.scalars(400, {"loss/td": 0.5})
        logger.scalars(800, {"loss/td": 0.25, "eval/mean": 20.0})
    (events,) = tmp_path.glob("events.out.tfevents.*")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        found = [
            (value.tag, event.step, value.tensor.float_val[0])
            for event in EventFileLoader(str(events)).Load()
            for value in event.summary.value
        ]
    assert found == [("loss/td", 400, 0.5), ("loss/td", 800, 0.25), ("eval/mean", 800, 20.0)]


QUIET = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
from atari_fast.infra.logging import RunLogger
with RunLogger(Path(sys.argv[1]), tensorboard=True) as logger:
    logger.scalars(4, {"x": 1.0})
print(sorted(name for name in sys.modules if name in ("torch", "tensorflow")))
"""


def test_tensorboard_is_quiet_and_needs_no_torch(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", QUIET, tmp_path], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("[]\n", "")


@pytest.mark.parametrize("when", ["missing", "opening", "writing", "closing"])
def test_failing_tensorboard_costs_one_warning(tmp_path, monkeypatch, when):
    from tensorboard.summary.writer import record_writer

    def fail(*_):
        raise OSError("disk on fire")

    if when == "missing":
        monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    else:
        name = {"opening": "__init__", "writing": "write", "closing": "close"}[when]
        monkeypatch.setattr(record_writer.RecordWriter, name, fail)

    def train():
        with RunLogger(tmp_path, tensorboard=True) as logger:
            logger.scalars(4, {"x": 1.0})
            logger.scalars(8, {"x": 2.0})
        logger.close()

    with pytest.warns(RuntimeWarning, match="TensorBoard: no more events are written") as caught:
        train()
    assert len(caught) == 1
    assert len(read_metrics(tmp_path)) == 2


def test_metrics_are_strict_json(tmp_path):
    with RunLogger(tmp_path, tensorboard=False) as logger:
        logger.scalars(4, {"x": -math.inf})

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
