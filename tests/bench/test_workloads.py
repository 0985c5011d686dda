"""Token layouts, positions, masks and the sampler's pixel bookkeeping against small cases worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from bench.engines.sensenova.attention import Cache, RotaryEmbedding, causal_block_mask, eager, grouped_sdpa, torch_sdpa
from bench.engines.sensenova.denoising import GuidedSampler
from bench.engines.sensenova.inputs import Prefix, prefixes
from bench.engines.sensenova.network import SenseNovaNetwork
from bench.engines.sensenova.vision import patchify, unpatchify
from bench.trace import StorageTracker
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.guidance import branches

SHAPE = catalog.get("sensenova-u1-8b-mot").architecture
assert isinstance(SHAPE, SenseNovaArchitecture)
ARCH: SenseNovaArchitecture = SHAPE


def test_positions_of_an_image_inside_text() -> None:
    prefix = Prefix("condition", 12, ((2, 2),))
    assert prefix.spans == [(5, 9)]
    time, row, column = prefix.positions().tolist()
    assert time == [0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 8]
    assert row == [0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert column == [0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0]
    assert prefix.next_time == 9


@given(st.integers(10, 60), st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=3))
def test_positions_cover_every_token_once(text: int, images: list[tuple[int, int]]) -> None:
    prefix = Prefix("condition", text + sum(r * c for r, c in images), tuple(images))
    time = prefix.positions()[0]
    assert time.shape == (prefix.length,)
    assert int(time[-1]) == prefix.next_time - 1
    for start, end in prefix.spans:
        assert len(set(time[start:end].tolist())) == 1


def test_mask_is_causal_and_open_inside_an_image() -> None:
    mask = causal_block_mask(torch.tensor([0, 1, 1, 2]))
    seen = (mask[0, 0] == 0).int().tolist()
    assert seen == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert mask.dtype == torch.float32


@pytest.mark.parametrize("task", [Task.T2I, Task.EDITING, Task.INTERLEAVE, Task.VQA])
def test_prefixes_have_the_estimators_lengths(task: Task) -> None:
    workload = Workload(task, references=() if task is Task.T2I else ((2048, 1152), (1000, 700)), image_cfg=1.0)
    counted = [(b.name, b.prefix) for b in branches(ARCH, workload)]
    assert [(p.name, p.length) for p in prefixes(ARCH, workload)] == counted


def test_patches_and_back() -> None:
    image = torch.arange(3 * 64 * 96).view(1, 3, 64, 96).float()
    patches = patchify(image, 32)
    assert patches.shape == (1, 6, 3072)
    assert torch.equal(patches[0, 1, :3], image[0, :, 0, 32])
    assert torch.equal(unpatchify(patches, 32, 64, 96), image)
    assert torch.equal(patchify(image, 32, channel_first=True)[0, 1, :32], image[0, 0, 0, 32:64])


def test_eager_and_sdpa_attention_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 8, 5, 16, generator=generator)
    key, value = (torch.randn(1, 2, 9, 16, generator=generator) for _ in range(2))
    output, weights = eager(query, key, value, torch.zeros(1, 1, 5, 9), 0.25)
    flash = grouped_sdpa(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), 0.25, torch_sdpa)
    torch.testing.assert_close(output, flash)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 8, 5))


def test_eager_attention_holds_each_score_in_ten_bytes_at_its_peak() -> None:
    """f32 once the mask is added, f32 after the softmax, and the bf16 copy that is multiplied."""
    heads, groups, tokens, width = 8, 4, 64, 16
    query = torch.empty(1, heads, tokens, width, dtype=torch.bfloat16, device="meta")
    key, value = (torch.empty(1, heads // groups, tokens, width, dtype=torch.bfloat16, device="meta") for _ in "kv")
    mask = torch.empty(1, 1, tokens, tokens, device="meta")
    with StorageTracker() as tracker, tracker.phase("prefix"):
        _, weights = eager(query, key, value, mask, 0.25)
    assert weights.dtype == torch.bfloat16
    repeated = 2 * heads * tokens * width * 2
    given = 2 * (query.numel() + key.numel() + value.numel()) + 4 * mask.numel()
    assert tracker.peaks["prefix"] == given + repeated + heads * tokens * tokens * (4 + 4 + 2)


def test_cache_holds_the_prefix_twice_while_denoising() -> None:
    cache = Cache(1)
    keys, values = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    cache.layers[0].update(keys, values)
    cache.layers[0].update(keys, values)
    assert cache.length == 6
    cache.prepare_denoise(5)
    layer = cache.layers[0]
    assert layer.flash_keys is not None
    assert layer.flash_keys.shape == (1, 11, 2, 4)
    assert layer.keys is not None
    assert torch.equal(layer.flash_keys[:, :6], layer.keys.transpose(1, 2))
    cache.drop_denoise()
    assert layer.flash_keys is None
    assert layer.flash_values is None
    assert cache.length == 6


def test_rotary_frequencies_are_every_second_one_of_a_head_twice_as_wide() -> None:
    frequencies = RotaryEmbedding(8, 10_000.0).frequencies()
    expected = [10_000.0 ** -(4 * index / 16) for index in range(4)]
    torch.testing.assert_close(frequencies, torch.tensor(expected))


@pytest.mark.parametrize(
    ("task", "cfg", "image_cfg", "velocity", "forwards"),
    [
        (Task.T2I, 1.0, 1.0, 7, []),
        (Task.T2I, 4.0, 1.0, 3 + 4 * (7 - 3), ["unconditional"]),
        (Task.EDITING, 1.0, 1.0, 7, []),
        (Task.EDITING, 4.0, 1.0, 6 + 4 * (7 - 6), ["image condition"]),
        (Task.EDITING, 4.0, 4.0, 3 + 4 * (7 - 3), ["unconditional"]),
        (Task.EDITING, 4.0, 2.0, 3 + 4 * (7 - 6) + 2 * (6 - 3), ["image condition", "unconditional"]),
        (Task.INTERLEAVE, 4.0, 2.0, 3 + 4 * (7 - 6) + 2 * (6 - 3), ["image condition", "unconditional"]),
    ],
)
def test_guidance_combines_the_branches_that_each_task_runs(
    task: Task, cfg: float, image_cfg: float, velocity: float, forwards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"image condition": 6.0, "unconditional": 3.0}
    ran: list[str] = []

    def predict(sampler: GuidedSampler, branch: str, t: torch.Tensor) -> torch.Tensor:
        ran.append(branch)
        return torch.tensor(values[branch])

    monkeypatch.setattr(GuidedSampler, "_predict", predict)
    with torch.device("meta"):
        model = SenseNovaNetwork(ARCH, lambda features, outputs: torch.nn.Identity())
    workload = Workload(task, 64, 64, cfg=cfg, image_cfg=image_cfg)
    sampler = GuidedSampler(model, workload, None, torch.device("cpu"))
    sampler.condition = torch.tensor(7.0)
    named: dict[str, Any] = {name: name for name in ("condition", *values)}
    assert float(sampler._guided(named, torch.tensor(0.0))) == velocity
    assert ran == forwards
    # no branch runs whose prefix was not computed
    assert {"condition", *forwards} <= {branch.name for branch in branches(ARCH, workload)} or task is Task.INTERLEAVE
