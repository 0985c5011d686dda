"""What calls take from the caching allocator: longer videos never less, and the least that works with workspaces."""

from __future__ import annotations

import pytest

from fitcheck.memory.caching_allocator import OutOfMemory
from fitcheck.runtimes.diffusers.call_pools import CallPool, large, least_limit, least_without
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, WORKSPACE, Event, trace
from fitcheck.units import MIB


def reserved(frames: int, share: float = 1.0, *, frugal: bool = False) -> int:
    """Bytes for decoding so many latent frames of 832x480 with Wan 2.2 5B's autoencoder."""
    found = trace("autoencoder-kl-wan2.2.fp32")
    assert found is not None
    pool = CallPool(share, frugal=frugal)
    for event in found.call("decode", {}).events({"height": 30, "width": 52, "frames": frames}):
        pool.take(event)
    return pool.reserved


def test_a_longer_video_takes_no_less() -> None:
    # with the latents among the other tensors it was 13.79 and 12.24 GiB
    assert reserved(10) <= reserved(11) < 1.01 * reserved(10)


def test_what_a_loop_runs_over_is_counted_beside_the_segments() -> None:
    pool = CallPool(1.0)
    for event in (Event(ALLOCATE, 30 * MIB, grows=True), Event(WORKSPACE, 10 * MIB, grows=True),
                  Event(ALLOCATE, 20 * MIB)):  # fmt: skip
        pool.take(event)
    assert pool.reserved == 60 * MIB
    pool.finish()
    pool.take(Event(ALLOCATE, 20 * MIB))  # from the segment that is cached
    assert pool.reserved == 60 * MIB


def test_convolutions_copy_where_there_is_room_and_do_without_where_there_is_none() -> None:
    # a piece of the workspace's segment is taken by what stays, so that the last tensor finds no segment of its size
    events = [
        Event(WORKSPACE, 100 * MIB), Event(ALLOCATE, 12 * MIB), Event(ALLOCATE, 100 * MIB), Event(FREE, 1),
        Event(ALLOCATE, 110 * MIB),
    ]  # fmt: skip
    assert least_without(events) == 122 * MIB
    assert 122 * MIB < least_limit(events, 1.0, 122 * MIB) <= 210 * MIB * 1.02
    assert least_limit(events, 0.0, 122 * MIB) == 122 * MIB


def test_small_tensors_and_modules_are_left_out_and_the_rest_is_numbered_anew() -> None:
    events = [
        Event(ENTER, path="a"), Event(ALLOCATE, 5), Event(ALLOCATE, 3 * MIB), Event(FREE, 0), Event(WORKSPACE, 7),
        Event(ALLOCATE, 2 * MIB), Event(FREE, 1), Event(LEAVE, path="a"), Event(FREE, 2),
    ]  # fmt: skip
    assert [*large(events)] == [
        Event(ALLOCATE, 3 * MIB), Event(WORKSPACE, 7), Event(ALLOCATE, 2 * MIB), Event(FREE, 0), Event(FREE, 1),
    ]  # fmt: skip


def test_a_tensor_without_room_fails() -> None:
    pool = CallPool(1.0, 50 * MIB)
    pool.take(Event(WORKSPACE, 100 * MIB))
    assert pool.reserved == 0
    with pytest.raises(OutOfMemory):
        pool.take(Event(ALLOCATE, 60 * MIB))
