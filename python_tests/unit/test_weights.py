from __future__ import annotations

import json

import pytest
import torch

from atari_fast.errors import CheckpointError
from atari_fast.infra import checkpoint as ckpt
from atari_fast.infra.weights import export_weights, load_weights, pack_state, unpack_state

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}


def _model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=torch.tensor(3e-4), eps=1e-5),
        lambda p: torch.optim.RMSprop(p, lr=2.5e-4, centered=True, eps=0.01 / 32**2),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ],
)
def test_optimizer_state_continues_exactly(tmp_path, make):
    def train(model, optimizer, steps, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(5, 3, generator=generator)).square().mean().backward()
            optimizer.step()

    model = _model()
    optimizer = make(model.parameters())
    train(model, optimizer, 3, seed=0)
    tensors, record = pack_state(optimizer.state_dict())
    path = ckpt.write_checkpoint(
        tmp_path, 4, {"online": model.state_dict(), "optimizer": tensors}, {"optim": record}, 1
    )
    read = ckpt.read_checkpoint(path)
    state = unpack_state(read.tensors["optimizer"], read.records["optim"])
    restored = _model()
    restored.load_state_dict(read.tensors["online"])
    other = make(restored.parameters())
    other.load_state_dict(state)
    assert str(other.state_dict()) == str(optimizer.state_dict())
    train(model, optimizer, 3, seed=1)
    train(restored, other, 3, seed=1)
    for mine, theirs in zip(model.parameters(), restored.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_pack_keeps_types_and_keys():
    state = {
        0: (1, 2.5, None),
        "0": [True, "x", float("inf")],
        "t": {0: torch.ones(2), "0": torch.zeros(1)},
    }
    tensors, record = pack_state(state)
    back = unpack_state(tensors, json.loads(json.dumps(record)))
    assert str(back) == str(state)
    with pytest.raises(CheckpointError, match="a set cannot be stored"):
        pack_state({"x": {1}})


@pytest.mark.parametrize(
    "record", [3, {}, {"dict": [["a", {"tensor": "x"}]]}, {"code": 1}, {"list": []}]
)
def test_unpack_refuses_what_does_not_belong_together(record):
    with pytest.raises(CheckpointError, match="state: damaged"):
        unpack_state({}, record)


def test_exported_weights_round_trip_and_damage(tmp_path):
    path = tmp_path / "zoo" / "pong.safetensors"
    metadata = {"game": "pong", "score": 20.5, "command": ["train", "pong"]}
    export_weights(path, TENSORS, metadata)
    tensors, read = load_weights(path)
    assert read == metadata
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
    blob = path.read_bytes()
    for offset in range(0, len(blob), 7):
        flipped = bytearray(blob)
        flipped[offset] ^= 0x10
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"pong\.safetensors"):
            load_weights(path)
    for length in (0, 4, 8, len(blob) // 2, len(blob) - 1):
        path.write_bytes(blob[:length])
        with pytest.raises(CheckpointError, match=r"pong\.safetensors"):
            load_weights(path)


def test_weights_of_others_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="expected weights exported by atari_fast"):
        load_weights(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(tmp_path / "missing.safetensors")
