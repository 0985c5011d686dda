"""A diffusers pipeline in the process that is measured: built, placed by diffusers' own switches, run by phases."""

from __future__ import annotations

import gc
import hashlib
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import nn

from bench.engines.diffusers import bitsandbytes_weights, lora_weights
from bench.engines.diffusers.building import empty_module, materialize, narrow_buffers, parameters_of, pipeline_of
from bench.engines.diffusers.freeing import free
from bench.engines.diffusers.placing import place
from bench.engines.diffusers.put_beside import with_controlnet
from bench.engines.diffusers.recipes import ComponentRecipe, Recipe, recipe
from bench.engines.diffusers.synthetic_weights import Synthetic, quantize
from bench.engines.diffusers.tier_weights import LAYERWISE, quantized_types
from bench.engines.diffusers.tiny import tiny
from bench.job import Job
from bench.told import LoadReport, Observer, PassReport
from fitcheck.errors import MeasurementError
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import CONTROLNET, TEXT_ENCODER
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.workload import Workload
from fitcheck.runtimes.diffusers.offloading import MODEL, NONE

_TYPES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3"}


class PipelineEngine:
    """Raises InputError for a cell that cannot run: an unknown pipeline, tier or mode."""

    def __init__(self, cell: Job) -> None:
        self.cell, self.workload = cell, cell.workload
        found = recipe(cell.model, bool(cell.workload.references))
        plain = tiny(found) if cell.tiny else found
        self.recipe = with_controlnet(plain) if cell.placement.get("controlnet") else plain
        self._folder = TemporaryDirectory() if cell.placement.get("offload_to_disk") else None
        self._encoders = _freed_encoders(cell, self.recipe)
        self._freed: tuple[str, ...] = ()
        self._pipeline: Any = None
        self.tensors: list[Tensor] = []

    def load(self, observer: Observer) -> LoadReport:
        """Modules with synthetic weights, put where the mode says. Runs once."""
        with torch.no_grad(), observer.phase("load"):
            started = time.perf_counter()
            source = Synthetic(self.cell.seed)
            modules = {name: self._module(name, part, source) for name, part in self.recipe.parts.items()}
            source.finish()
            self._pipeline = pipeline_of(self.recipe, modules, self.recipe.text)
            self._pipeline.set_progress_bar_config(disable=True)
            if spec := self.cell.placement.get("load_lora_weights"):
                self._load_lora(str(spec), source)
            table = TensorTable(self.tensors)
            self._place()
            gc.collect()
            device = _bytes(modules, "cuda")
        return LoadReport(
            weights="synthetic",
            tensors=len(table),
            table_digest=table.digest,
            weight_bytes=table.nbytes,
            pinned_bytes=0,
            pinned_rounded_bytes=0,
            pageable_bytes=_bytes(modules, "cpu"),
            device_bytes=device,
            seconds=time.perf_counter() - started,
            type_bytes=table.bytes_by_type,
        )

    def _place(self) -> None:
        folder = None if self._folder is None else self._folder.name
        place(self._pipeline, self.cell.placement, self.cell.device, folder)

    def _load_lora(self, spec: str, source: Synthetic) -> None:
        """Beside every denoiser, before anything is placed: hooks that are there do not know what comes later."""

        def made(full: str, one: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
            self.tensors.append(Tensor(full, tuple(one.shape), _TYPES[dtype], branch=full.partition(".")[0]))
            return source.dense(full, one, dtype)

        dtype = getattr(torch, self.recipe.parts[self.recipe.denoisers[0]].computes)
        for matrices, told in lora_weights.files(self._pipeline, self.recipe.denoisers, spec, dtype, made):
            source.finish()
            self._pipeline.load_lora_weights(matrices, **told)

    def _module(self, name: str, part: ComponentRecipe, source: Synthetic) -> nn.Module:
        module = empty_module(part)
        narrow_buffers(part, module)
        denoiser = name in self.recipe.denoisers
        if denoiser and self._format == bitsandbytes_weights.FORMAT:
            return self._by_bitsandbytes(name, part, module, source)
        shapes = {full: tuple(one.shape) for _, _, full, one, _ in parameters_of(part, module)}
        types = quantized_types(self.cell.model, self.cell.tier, name, shapes, module) if denoiser else {}
        for full, kind in types.items():
            self.tensors.append(Tensor(f"{name}.{full}", shapes[full], kind, branch=name))
            module.get_submodule(full.rpartition(".")[0])._parameters["weight"] = None
        layerwise = denoiser and self.cell.tier == LAYERWISE
        materialize(part, module, lambda full, one, dtype: source.dense(f"{name}.{full}", one, dtype))
        if types:
            quantize(module, types, source, f"{name}.", getattr(torch, part.dtype))
        if layerwise:
            source.finish()
            module.enable_layerwise_casting(  # type: ignore[operator]
                storage_dtype=torch.float8_e4m3fn, compute_dtype=getattr(torch, part.dtype)
            )
        for full, one in module.named_parameters():
            if full not in types:
                self.tensors.append(Tensor(f"{name}.{full}", tuple(one.shape), _TYPES[one.dtype], branch=name))
        return module

    @property
    def _format(self) -> str:
        tier = catalog.get(self.cell.model).tier(self.cell.tier)
        return "" if tier is None else tier.format

    def _by_bitsandbytes(self, name: str, part: ComponentRecipe, module: nn.Module, source: Synthetic) -> nn.Module:
        bitsandbytes_weights.fill(part, module, self.cell.tier, source, f"{name}.", self.cell.device)
        for full, one in module.named_parameters():
            quantized = list(bitsandbytes_weights.tensors(full, one, name))
            plain = Tensor(f"{name}.{full}", tuple(one.shape), _TYPES.get(one.dtype, ""), branch=name)
            self.tensors += quantized or [plain]
        return module

    def run(self, observer: Observer) -> PassReport:
        """One call of the pipeline: encode, denoise and decode measured apart."""
        self._remake_freed()
        clock = PhaseClock(observer, self.cell.device)
        pipeline, work = self._pipeline, self.workload
        generator = torch.Generator("cpu").manual_seed(self.cell.seed)
        if self.recipe.has_guider:  # which no argument of the call reaches
            pipeline.guider.guidance_scale = work.cfg
        stepping = (*self.recipe.denoisers, *([CONTROLNET] if self.recipe.guide else []))
        with torch.no_grad(), clock.watching(pipeline, stepping), self._freeing(stepping):
            result = pipeline(
                prompt="a picture", width=work.width, height=work.height, num_inference_steps=work.steps,
                generator=generator, output_type="pt", return_dict=False,
                **({} if self.recipe.guide else _told(pipeline, clock)), **_several(work), **self._pictures(),
                **({"num_frames": work.frames} if self.recipe.video else {}),
                **self.recipe.call(self.recipe.text, work.cfg),
            )  # fmt: skip
        output = _made(result).detach().to("cpu")
        return PassReport(
            seconds=clock.seconds,
            step_seconds=tuple(clock.steps),
            streamed_bytes=None,
            copies={},
            copy_seconds=None,
            wait_seconds=None,
            output_digest=hashlib.sha256(output.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest(),
            output_shape=tuple(output.shape),
            finite=bool(output.isfinite().all()),
            attention_backend="sdpa",
        )

    def _pictures(self) -> dict[str, Any]:
        """The arguments by which the pipeline is handed pictures, grey ones: the workload's references of their sizes,
        and of the output's size what guides a ControlNet."""
        if self.recipe.guide:
            return {self.recipe.guide: Image.new("RGB", (self.workload.width, self.workload.height), "grey")}
        made = [Image.new("RGB", size, "grey") for size in self.workload.references]
        style = self.recipe.style
        return dict.fromkeys(style.pictures, made if style.listed else made[0]) if made else {}

    @contextmanager
    def _freeing(self, stepping: tuple[str, ...]) -> Iterator[None]:
        """Text encoders go when the first step begins: no pipeline needs them from then on."""
        pipeline, names = self._pipeline, self._encoders

        def let_go(*_: Any) -> None:
            if not self._freed:
                self._freed = names
                free(pipeline, names, self.cell.device)

        modules = [getattr(pipeline, name) for name in (stepping if names else ())]
        handles = [one.register_forward_pre_hook(let_go, prepend=True) for one in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _remake_freed(self) -> None:
        """Text encoders that the call before let go are made and placed again, as a program loads them again."""
        if not self._freed:
            return
        source, told = Synthetic(self.cell.seed), len(self.tensors)
        for name in self._freed:
            setattr(self._pipeline, name, self._module(name, self.recipe.parts[name], source))
        source.finish()
        del self.tensors[told:]  # the same as before
        self._freed = ()
        self._place()

    def resize(self, workload: Workload) -> None:
        """The next passes run another size."""
        self.workload = workload

    def close(self) -> None:
        """Give memory back; the engine cannot run again."""
        self._pipeline = None
        gc.collect()
        if self._folder is not None:
            self._folder.cleanup()


def _freed_encoders(cell: Job, found: Recipe) -> tuple[str, ...]:
    """The components that go once the prompt is encoded. Raises MeasurementError for a mode that moves their layers."""
    if not cell.placement.get("free_text_encoder"):
        return ()
    if cell.placement.mode not in (NONE, MODEL):
        raise MeasurementError(f"--free-text-encoder: goes with modes {NONE} and {MODEL}, not {cell.placement.mode}.")
    return tuple(one.name for one in found.architecture.components if one.role == TEXT_ENCODER)


def _made(result: Any) -> torch.Tensor:
    """The pictures of a pipeline's result: its first value, or of one that is made of blocks the last block's."""
    if isinstance(result, tuple):
        found = result[0]
    else:
        found = next(made for name in ("images", "videos") if (made := result.get(name)) is not None)
    return found if isinstance(found, torch.Tensor) else torch.stack(list(found))


def _told(pipeline: Any, clock: PhaseClock) -> dict[str, Any]:
    """The argument by which a pipeline says that a step is done; some have none, and their steps stay untold. So do
    those beside a ControlNet: the pipeline finds what it tells by ``locals()``, which before Python 3.13 holds what the
    ControlNet made until the next step is told."""
    name = "callback_on_step_end"
    return {name: clock.step} if name in inspect.signature(pipeline.__call__).parameters else {}


def _several(work: Workload) -> dict[str, int]:
    """The argument for more than one picture or video; pipelines call it differently, and one is the default."""
    if work.batch == 1:
        return {}
    return {"num_videos_per_prompt" if work.frames > 1 else "num_images_per_prompt": work.batch}


def _bytes(modules: dict[str, nn.Module], device: str) -> int:
    seen = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for module in modules.values()
        for one in (*module.parameters(), *module.buffers())
        if one.device.type == device
    }
    return sum(seen.values())


class PhaseClock:
    """Tells the phases of a pipeline's call apart: a phase begins with the first call of a text encoder, of a denoiser,
    of the autoencoder's decoder, and lasts until the next begins."""

    def __init__(self, observer: Observer, device: str) -> None:
        self._observer, self._cuda = observer, device == "cuda"
        self._open: AbstractContextManager[None] | None = None
        self._now, self._since, self._step_since = "", 0.0, 0.0
        self.seconds: dict[str, float] = {}
        self.steps: list[float] = []

    @contextmanager
    def watching(self, pipeline: Any, denoisers: tuple[str, ...]) -> Iterator[None]:
        """The block is one call of ``pipeline``."""
        handles = [
            getattr(pipeline, name).register_forward_pre_hook(lambda *_: self.enter("denoise")) for name in denoisers
        ]
        vae, decode = pipeline.vae, pipeline.vae.decode
        vae.decode = self._noted(decode)
        self.enter("encode")
        try:
            yield
        finally:
            self.leave()
            del vae.decode
            for handle in handles:
                handle.remove()

    def _noted(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.enter("decode")
            return decode(*args, **kwargs)

        return noted

    def enter(self, name: str) -> None:
        """A phase begins, unless it is the one that runs."""
        if name == self._now:
            return
        self.leave()
        self._now, self._open = name, self._observer.phase(name)
        self._open.__enter__()
        self._since = self._step_since = time.perf_counter()

    def leave(self) -> None:
        """The phase that runs ends."""
        if self._open is None:
            return
        self.synchronize()
        self.seconds[self._now] = self.seconds.get(self._now, 0.0) + time.perf_counter() - self._since
        self._open.__exit__(None, None, None)
        self._open, self._now = None, ""

    def synchronize(self) -> None:
        """Waits for the card."""
        if self._cuda:
            torch.cuda.synchronize()

    def step(self, pipeline: Any, index: int, moment: Any, values: dict[str, Any]) -> dict[str, Any]:
        """diffusers' ``callback_on_step_end``."""
        self.synchronize()
        now = time.perf_counter()
        self.steps.append(now - self._step_since)
        self._observer.step(self.steps[-1])
        self._step_since = now
        return values
