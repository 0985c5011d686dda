"""What tracing and estimates take from torch, diffusers and transformers: fails loudly when an interface changes."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import flop_registry

from bench.engines.diffusers.recipes import STYLES, recipe
from bench.tracing.values import UnknownValue, Values
from fitcheck.models import catalog
from fitcheck.models.families import registry as families
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture


def shapes() -> list[tuple[str, PipelineArchitecture]]:
    found = [(slug, catalog.get(slug).architecture) for slug in families.get("pipeline").slugs()]
    return [(slug, one) for slug, one in found if isinstance(one, PipelineArchitecture)]


def test_storages_have_an_address_and_say_when_they_die() -> None:
    died: list[int] = []
    with FakeTensorMode():
        tensor = torch.empty(4, 8)
    storage = tensor.untyped_storage()
    assert isinstance(tensor, FakeTensor)
    assert storage.nbytes() == 128
    assert isinstance(storage._cdata, int)
    watched = weakref.ref(storage, lambda _: died.append(1))
    del storage, tensor
    assert watched() is None
    assert died == [1]


def test_a_mode_inside_a_fake_one_sees_the_operators_first() -> None:
    seen: list[str] = []

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    with FakeTensorMode(), Watching():  # type: ignore[no-untyped-call]
        made = torch.ones(2, 3) @ torch.ones(3, 2)
    assert isinstance(made, FakeTensor)
    assert seen[-1] == "aten::mm"
    assert torch.ops.aten.mm in flop_registry
    assert torch.ops.aten.convolution in flop_registry


def test_values_are_computed_outside_the_modes() -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    values = Values()
    mask = torch.tensor([True, False, True])
    fake = mode.from_tensor(mask)
    with mode, _disable_current_modes():
        assert not isinstance(torch.ones(2), FakeTensor)
    with mode:
        with pytest.raises(UnknownValue):
            values.asked(torch.ops.aten.nonzero.default, (fake,), {})
        values.note(fake, mask)
        found = values.asked(torch.ops.aten.nonzero.default, (fake,), {})
    assert found.shape == (2, 1)
    known = values.of(found)
    assert known is not None
    assert known.tolist() == [[0], [2]]


@pytest.mark.parametrize(("slug", "shape"), shapes())
def test_the_catalogs_offload_sequence_is_the_classs(slug: str, shape: PipelineArchitecture) -> None:
    """Pipelines made of blocks have none: ``ComponentsManager`` places their components."""
    cls = getattr(diffusers, shape.pipeline)
    sequence = getattr(cls, "model_cpu_offload_seq", None)
    if sequence is None:
        assert shape.pipeline.endswith("ModularPipeline"), slug
        return
    assert tuple(sequence.split("->")) == shape.offload_sequence
    assert set(shape.excluded_from_offload) <= set(cls._exclude_from_cpu_offload)


@pytest.mark.parametrize("name", sorted(STYLES))
def test_calls_take_what_the_bench_hands_them(name: str) -> None:
    style, cls = STYLES[name], getattr(diffusers, name)
    if style.modular:
        assert callable(getattr(diffusers, cls.default_blocks_name))
        return
    accepted = set(inspect.signature(cls.__call__).parameters)
    assert {*style.call, *style.pictures, "prompt", "num_inference_steps", "output_type"} <= accepted
    assert not style.sequence or style.sequence in accepted
    assert set(style.tokenizers) <= set(inspect.signature(cls.__init__).parameters)


def test_offload_is_called_as_the_estimates_take_it() -> None:
    taken = inspect.signature(diffusers.hooks.apply_group_offloading).parameters
    wanted = {"onload_device", "offload_device", "offload_type", "num_blocks_per_group", "use_stream", "record_stream",
              "low_cpu_mem_usage", "offload_to_disk_path"}  # fmt: skip
    assert wanted <= set(taken)
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload", "maybe_free_model_hooks"):
        assert callable(getattr(diffusers.DiffusionPipeline, name))


def test_a_class_that_diffusers_lacks_is_one_sentence() -> None:
    from dataclasses import replace

    from bench.engines.diffusers.building import class_of
    from fitcheck.errors import MeasurementError

    part = replace(recipe("lumina-2").parts["transformer"], cls="NoSuchTransformer2DModel")
    with pytest.raises(MeasurementError, match=r"NoSuchTransformer2DModel: diffusers \d+\.\d+.* has no such class\."):
        class_of(part)
