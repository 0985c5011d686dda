"""Traces: what is recorded, that polynomials are exact, and that a packed trace says of a new size what a recording
of it says."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
import torch

from bench.tracing.fitting import Inexact, PolynomialFit
from bench.tracing.packing import Loop, Unpackable, pack, pack_whole
from bench.tracing.recorder import Recorder, Recording
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, WORKSPACE, Event, Trace


def recorded(module: Any, *inputs: Any) -> Recording:
    """The module's forward on fake tensors of these shapes."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    weights = [mode.from_tensor(one) for one in module.parameters()]
    with torch.no_grad(), mode:
        handed = [torch.empty(shape) for shape in inputs]
        recorder = Recorder([*weights, *handed])
        with recorder, recorder.modules(module):
            result = module(*handed)
        recorder.close([result])
        recorder.recording.inputs = sum(one.numel() * 4 for one in handed)
        recorder.recording.outputs = result.numel() * 4
    return recorder.recording


class Block(torch.nn.Module):
    """A linear, an activation, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)

    def forward(self, x: Any) -> Any:
        return x + self.down(torch.relu(self.up(x)))


class Frames(torch.nn.Module):
    """A decoder called frame by frame whose results are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Block()

    def forward(self, x: Any) -> Any:
        x = x * 2
        out = self.decoder(x[:1])
        for index in range(1, x.shape[0]):
            out = torch.cat([out, self.decoder(x[index : index + 1])])
        return out.clamp(-1, 1)


def kinds(events: list[Event]) -> list[int]:
    return [event.kind for event in events]


def as_events(recording: Recording) -> list[tuple[int, Any]]:
    numbers = {"+": ALLOCATE, "-": FREE, "in": ENTER, "out": LEAVE, "w": WORKSPACE}
    return [(numbers[kind], value) for kind, value in recording.events]


def flat(events: list[Event]) -> list[tuple[int, Any]]:
    return [(one.kind, one.path if one.kind in (ENTER, LEAVE) else one.value) for one in events]


def test_a_recording_has_every_allocation_and_when_it_is_freed() -> None:
    recording = recorded(Block(), (4, 8))
    allocated = [value for kind, value in recording.events if kind == "+"]
    # up: 4 x 32 floats; relu the same; down and the sum: 4 x 8
    assert allocated == [512, 512, 128, 128]
    # the sum is what comes out, and lives on
    assert sorted(value for kind, value in recording.events if kind == "-") == [0, 1, 2]
    assert recording.peak() == 1024
    assert recording.flops == 2 * 4 * 8 * 32 * 2


class Keeping(Block):
    """A block that keeps its states for later calls."""

    kept: Any = None

    def forward(self, x: Any) -> Any:
        self.__dict__["kept"] = x * 2
        return super().forward(x)


def test_what_is_left_and_no_result_was_kept() -> None:
    assert recorded(Block(), (4, 8)).kept == ()
    module = Keeping()
    found = recorded(module, (4, 8))
    sizes = [value for kind, value in found.events if kind == "+"]
    assert [sizes[at] for at in found.kept] == [4 * 8 * 4]
    packed = pack_whole(
        [({"n": n}, recorded(module, (n, 8))) for n in (4, 16, 32)],
        [({"n": n}, recorded(module, (n, 8))) for n in (4, 32)],
        ("n",),
        [(0,), (1,)],
    )
    assert Trace("test", {"software": {}, "calls": {"forward": packed}}).calls["forward"].total("kept", {"n": 64}) == (
        64 * 8 * 4
    )


def test_a_convolution_needs_its_input_weight_and_output_again() -> None:
    recording = recorded(torch.nn.Conv2d(3, 5, 3, padding=1, bias=False), (1, 3, 16, 16))
    spaces = [value for kind, value in recording.events if kind == "w"]
    assert spaces == [4 * (3 * 256 + 5 * 3 * 9 + 5 * 256)]


def test_polynomials_are_exact_or_refused() -> None:
    points = [{"n": n, "t": t} for n, t in ((1, 2), (2, 3), (5, 1), (7, 7), (4, 9))]
    fit = PolynomialFit(("n", "t"), [(0, 0), (1, 0), (0, 1), (1, 1)], points)
    assert fit.checks == 1
    row = fit.packed([3 + 2 * p["n"] + p["n"] * p["t"] for p in points])
    assert row == (1, 0, 3, 1, 2, 3, 1)
    assert fit.packed([p["n"] // 1 * 3 for p in points])[0] == 1
    with pytest.raises(Inexact):
        fit.packed([p["n"] ** 3 for p in points])


def test_a_packed_trace_says_of_a_new_size_what_a_recording_says() -> None:
    module = Block()
    rows = [({"batch": 1, "tokens": n}, recorded(module, (n, 8))) for n in (4, 8, 64)]
    packed = pack(rows, ("batch", "tokens"), [(1, 1), (0, 0)])
    trace = Trace("test", {"software": {}, "calls": {"forward": packed}})
    again = recorded(module, (1000, 8))
    call = trace.calls["forward"]
    assert packed["checks"] == 1
    assert flat(list(call.events({"tokens": 1000}))) == as_events(again)
    found = trace.activations("forward", {"tokens": 1000})
    assert (found.flops, found.nbytes) == (again.flops, again.moved)
    assert (found.inputs, found.outputs) == (again.inputs, again.outputs)
    assert found.peak == again.peak()  # all multiples of 512 here


def test_other_operators_at_another_size_are_refused() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.shape[0] > 10 else x

    with pytest.raises(Unpackable, match="another sequence"):
        pack([({"n": n}, recorded(Odd(), (n, 8))) for n in (4, 16)], ("n",), [(0,), (1,)])


@pytest.mark.parametrize("frames", [3, 4, 9, 30])
def test_a_loop_over_frames_is_one_stretch_of_events(frames: int) -> None:
    module = Frames()
    sizes = ((5, 4), (6, 4), (5, 8), (7, 2), (6, 16), (8, 3))
    rows = [({"frames": f, "height": h}, recorded(module, (f, h, 8))) for f, h in sizes]
    terms = [(0, 1), (0, 0), (1, 1), (1, 0)]
    packed = pack(rows, ("frames", "height"), terms, Loop("decoder", "frames"))
    trace = Trace("test", {"software": {}, "calls": {"decode": packed}})
    again = recorded(module, (frames, 32, 8))
    asked = {"frames": frames, "height": 32}
    assert flat(list(trace.calls["decode"].events(asked))) == as_events(again)
    found = trace.activations("decode", asked)
    assert (found.flops, found.nbytes, found.outputs) == (again.flops, again.moved, again.outputs)
    assert packed["checks"] > 0


def test_a_dequantized_weight_stays_for_its_product() -> None:
    module = Block()
    packed = pack([({"tokens": n}, recorded(module, (n, 8))) for n in (4, 8, 64)], ("tokens",), [(0,), (1,)])
    trace = Trace("test", {"software": {}, "calls": {"forward": packed}})
    plain = trace.activations("forward", {"tokens": 4}).peak
    dense = trace.activations("forward", {"tokens": 4}, {"down": ("Q8_0", 1 << 20)}).peak
    assert dense >= plain + (2 << 20)
