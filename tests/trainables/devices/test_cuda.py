"""Conclusions from the plain facts of CUDA and NVML; no test needs a card."""

import os

import pytest

from trainables.devices.cuda import (
    CONTEXT_BYTES,
    Holdings,
    allocator_fraction,
    asked_bytes,
    free_on_card,
    grow_segments,
    holdings,
    nvml_uuid,
    out_of_memory_cause,
)
from trainables.devices.device import Cause

GIB = 2**30
CARDS = ["GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3"]


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ({7: 6 * GIB, 8: 3 * GIB}, Holdings(beyond_torch=GIB, others=3 * GIB)),
        # The driver may count this process late.
        ({7: 4 * GIB}, Holdings(beyond_torch=0, others=4 * GIB)),
        # Without sizes from NVML (absent, or in a container), a usual context is subtracted.
        (None, Holdings(beyond_torch=CONTEXT_BYTES, others=4 * GIB - CONTEXT_BYTES)),
        ({}, Holdings(beyond_torch=CONTEXT_BYTES, others=4 * GIB - CONTEXT_BYTES)),
        ({7: None}, Holdings(beyond_torch=CONTEXT_BYTES, others=4 * GIB - CONTEXT_BYTES)),
    ],
)
def test_the_memory_of_this_process_is_told_from_that_of_others(
    processes: dict[int, int | None] | None, expected: Holdings
) -> None:
    found = holdings(total=24 * GIB, free=15 * GIB, reserved=5 * GIB, processes=processes, own_pid=7)
    assert found == expected


def test_nobody_holds_less_than_nothing() -> None:
    found = holdings(total=24 * GIB, free=20 * GIB, reserved=5 * GIB, processes=None, own_pid=7)
    assert found == Holdings(0, 0)


@pytest.mark.parametrize(
    ("visible", "index", "torch_uuid", "expected"),
    [
        (None, 1, None, "GPU-aabb-2"),
        ("2,0", 0, None, "GPU-cccc-3"),
        ("2, 0", 1, None, "GPU-aaaa-1"),
        ("GPU-cccc-3", 0, None, "GPU-cccc-3"),
        ("GPU-cc", 0, None, "GPU-cccc-3"),
        # CUDA may order cards by speed, so torch's own UUID is more reliable than an index.
        ("0", 0, "aabb-2", "GPU-aabb-2"),
        ("MIG-dddd-4", 0, "aaaa-1", "MIG-dddd-4"),
        ("GPU-aaaa-1,MIG-dddd-4", 1, "aaaa-1", "MIG-dddd-4"),
        # An ambiguous or unknown device gives None, not a guess.
        ("GPU-aa", 0, None, None),
        ("7", 0, None, None),
        ("0", 3, None, None),
        ("", 0, None, None),
    ],
)
def test_the_card_is_found_by_index_or_uuid(
    visible: str | None, index: int, torch_uuid: str | None, expected: str | None
) -> None:
    assert nvml_uuid(visible, index, torch_uuid, CARDS) == expected


def test_the_requested_size_is_read_from_the_message() -> None:
    message = (
        "CUDA out of memory. Tried to allocate 360.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which 94.56 MiB"
        " is free."
    )
    assert asked_bytes(message) == 360 * 2**20
    assert asked_bytes("Tried to allocate 1.50 GiB.") == 3 * GIB // 2
    assert asked_bytes("Tried to allocate 512 bytes.") == 512
    assert asked_bytes("out of memory") is None


def test_the_allocator_gets_what_the_budget_leaves() -> None:
    assert allocator_fraction(12 * GIB, 2 * GIB, 20 * GIB) == 0.5
    assert allocator_fraction(GIB, 2 * GIB, 20 * GIB) == 0.0
    assert allocator_fraction(40 * GIB, 0, 20 * GIB) == 1.0


@pytest.mark.parametrize(
    ("asked", "allocated", "reserved", "allowed", "expected"),
    [
        # In GiB. The process may use 9, of which its context takes 1.
        (2, 7, 7, 9, "own"),
        (2, 6, 6, 8, "neighbour"),
        (2, 6, 8, 9, "fragmentation"),
        # Even without fragmentation it would not fit beside the neighbour.
        (2, 6, 8, 8, "neighbour"),
        (2, 4, 6, 8, "fragmentation"),
        # The request would fit by now.
        (1, 6, 6, 9, "own"),
        (None, 6, 8, 8, "own"),
    ],
)
def test_the_cause_of_exhausted_memory_is_attributed(
    asked: int | None, allocated: int, reserved: int, allowed: int, expected: Cause
) -> None:
    found = out_of_memory_cause(
        asked=None if asked is None else asked * GIB,
        allocated=allocated * GIB,
        reserved=reserved * GIB,
        beyond_torch=GIB,
        entitled=9 * GIB,
        allowed=allowed * GIB,
    )
    assert found == expected


def test_a_card_taken_for_a_smaller_one_has_free_what_the_smaller_one_would() -> None:
    # This process holds 2 GiB.
    assert free_on_card(total=8 * GIB, real_total=24 * GIB, real_free=19 * GIB, others=3 * GIB) == 3 * GIB
    assert free_on_card(total=4 * GIB, real_total=24 * GIB, real_free=19 * GIB, others=3 * GIB) == 0
    # Two values read at different moments may disagree.
    assert free_on_card(total=24 * GIB, real_total=24 * GIB, real_free=20 * GIB, others=5 * GIB) == 20 * GIB


@pytest.mark.parametrize("set_by_user", [None, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_segments_are_to_grow_unless_the_user_set_the_allocator(
    set_by_user: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        # Set it first, so that monkeypatch also restores a value set below.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if set_by_user:
        monkeypatch.setenv(set_by_user, "max_split_size_mb:64")
    grow_segments()
    expected = (
        {set_by_user: "max_split_size_mb:64"} if set_by_user else {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    )
    assert {name: value for name, value in os.environ.items() if name.endswith("ALLOC_CONF")} == expected
