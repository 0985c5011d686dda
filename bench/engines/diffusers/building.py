"""Modules and pipelines from configurations: parameters without data first, filled by whoever asks for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.models import embeddings
from torch import nn

from bench.engines.diffusers.recipes import ComponentRecipe, PictureCells, Recipe
from fitcheck.errors import MeasurementError

Fill = Callable[[str, torch.Tensor, torch.dtype], torch.Tensor]


def empty_module(part: ComponentRecipe) -> nn.Module:
    """The component's class with its configuration, parameters on the meta device, buffers real.

    Raises InputError for a class that the installed library lacks.
    """
    cls = class_of(part)
    with init_empty_weights():
        if part.library.startswith("diffusers"):
            module = cls(**_known(cls, part.config))
        else:
            config = cls.config_class(**_nested(cls, part.config))
            module = cls(config)
    if part.library == "transformers":
        module.tie_weights()
    return module.eval().requires_grad_(False)  # type: ignore[no-any-return]


@contextmanager
def plain_positions() -> Iterator[None]:
    """Tables of positions as long as diffusers makes them and of noughts, which no memory is touched for: where nobody
    computes, 36,864 sines and cosines of SD 3.5 cost 2 s and 1.4 GB."""
    made = embeddings.get_2d_sincos_pos_embed

    def noughts(
        width: int, grid: int | tuple[int, int], cls_token: bool = False, extra_tokens: int = 0, **_: Any
    ) -> torch.Tensor:
        rows, columns = (grid, grid) if isinstance(grid, int) else grid
        return torch.zeros(rows * columns + (extra_tokens if cls_token else 0), width)

    embeddings.get_2d_sincos_pos_embed = noughts  # type: ignore[assignment]
    try:
        yield
    finally:
        embeddings.get_2d_sincos_pos_embed = made


def class_of(part: ComponentRecipe) -> Any:
    """The component's class. Raises MeasurementError for one that the installed library lacks."""
    cls = getattr(import_module(part.library), part.cls, None)
    if cls is None:
        version = import_module(part.library.partition(".")[0]).__version__
        raise MeasurementError(f"{part.cls}: {part.library} {version} has no such class.")
    return cls


def _known(cls: type, config: Any) -> dict[str, Any]:
    accepted = inspect.signature(cls).parameters
    return {name: value for name, value in config.items() if name in accepted}


def _nested(cls: Any, config: Any) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}


def dtype_of(part: ComponentRecipe, module: nn.Module, name: str) -> torch.dtype:
    """What a parameter is loaded in: the component's dtype, except for what its class keeps in fp32; transformers does
    so in fp16 alone (modeling_utils.py, _keep_in_fp32_modules)."""
    keeps = part.library.startswith("diffusers") or part.dtype == "float16"
    kept = (getattr(module, "_keep_in_fp32_modules", None) or ()) if keeps else ()
    words = name.split(".")
    return torch.float32 if any(word in words for word in kept) else getattr(torch, part.dtype)


def parameters_of(
    part: ComponentRecipe, module: nn.Module
) -> Iterator[tuple[nn.Module, str, str, torch.Tensor, torch.dtype]]:
    """(owner, leaf name, full name, parameter, dtype), tied ones once."""
    seen: set[int] = set()
    for path, owner in module.named_modules():
        for leaf, parameter in owner._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                name = f"{path}.{leaf}" if path else leaf
                yield owner, leaf, name, parameter, dtype_of(part, module, name)


def materialize(part: ComponentRecipe, module: nn.Module, fill: Fill) -> None:
    """Replaces every parameter by what ``fill`` makes of (name, meta parameter, dtype); ties stay ties."""
    new: dict[int, nn.Parameter] = {}
    for _, _, name, parameter, dtype in list(parameters_of(part, module)):
        new[id(parameter)] = nn.Parameter(fill(name, parameter, dtype), requires_grad=False)
    for owner in module.modules():
        for leaf, held in list(owner._parameters.items()):
            if held is not None and id(held) in new:
                owner._parameters[leaf] = new[id(held)]


def narrow_buffers(part: ComponentRecipe, module: nn.Module) -> None:
    """Persistent buffers in the dtype that a checkpoint's are loaded in, as SD 3.5's table of positions is."""
    for path, owner in module.named_modules():
        for leaf, buffer in list(owner._buffers.items()):
            if buffer is not None and buffer.is_floating_point() and leaf not in owner._non_persistent_buffers_set:
                owner._buffers[leaf] = buffer.to(dtype_of(part, module, f"{path}.{leaf}" if path else leaf))


class FixedTokenizer:
    """Stands for a tokenizer or a processor: as many random ids as the recipe says, so that no vocabulary is needed;
    pictures as patches of zeros, with a placeholder for each token that a language model sees of them."""

    pad_token = eos_token = "."  # noqa: S105

    def __init__(self, length: int, padded: int = 0, vision: PictureCells | None = None, template: int = 0) -> None:
        self.length, self.model_max_length, self._template = length, max(length, padded), template
        self.padding_side = "right"
        self.added_tokens_encoder: dict[str, int] = {}
        self._vision = vision

    @property
    def tokenizer(self) -> FixedTokenizer:
        """A processor's tokenizer."""
        return self

    def __call__(
        self, text: Any = None, padding: Any = False, max_length: int | None = None, images: Any = None,
        add_special_tokens: bool = True, **_: Any,
    ) -> Any:  # fmt: skip
        """Ids and their mask, padded as asked, and the patches of images; a list of ids alone for a single prompt
        without anything around it."""
        from transformers import BatchEncoding

        rows = 1 if isinstance(text, str) else len(text)
        # what is asked for again without truncation is only compared by length
        width = max_length if padding == "max_length" and max_length else 1 if padding == "longest" else self.length
        generator = torch.Generator().manual_seed(width)
        ids = torch.randint(3, 1000, (rows, width), generator=generator)
        mask = torch.ones((rows, width), dtype=torch.long)
        mask[:, self.length :] = 0
        if isinstance(text, str) and not add_special_tokens:
            return BatchEncoding({"input_ids": ids[0].tolist()})
        if not images or self._vision is None:
            return BatchEncoding({"input_ids": ids, "attention_mask": mask})
        return BatchEncoding(self._pictured(self._vision, ids, images if isinstance(images, list) else [images]))

    @staticmethod
    def _pictured(vision: PictureCells, ids: torch.Tensor, images: list[Any]) -> dict[str, torch.Tensor]:
        grids = [vision.grid(*one.size) for one in images]
        seen = [torch.full((ids.shape[0], h * w // vision.merge**2), vision.token) for _, h, w in grids]
        start = torch.full((ids.shape[0], 1), vision.start)
        joint = torch.cat([ids[:, :-1], *(part for one in seen for part in (start, one)), ids[:, -1:]], 1)
        patches = sum(h * w for _, h, w in grids)
        return {
            "input_ids": joint,
            "attention_mask": torch.ones_like(joint),
            "mm_token_type_ids": (joint == vision.token).long(),
            "pixel_values": torch.zeros(patches, 3 * 2 * vision.patch**2),
            "image_grid_thw": torch.tensor(grids),
        }

    def apply_chat_template(
        self, messages: Any, tokenize: bool = False, return_dict: bool = True, **options: Any
    ) -> Any:
        """Any text, whose length decides nothing here, its ids, or those of the template alone."""
        if not return_dict:
            return [[0] * self._template]
        return self([""] * len(messages), **options) if tokenize else str(messages)

    def encode(self, text: str, **_: Any) -> list[int]:
        """The placeholder of a picture."""
        return [self._vision.token if self._vision is not None else 3]

    def create_mm_token_type_ids(self, ids: list[list[int]]) -> list[list[int]]:
        """Text alone."""
        return [[0] * len(row) for row in ids]

    def tokenize(self, text: str, **_: Any) -> list[str]:
        """Words: none of them is an embedding of textual inversion."""
        return text.split()

    def batch_decode(self, ids: Any, **_: Any) -> list[str]:
        """Nothing to read in random ids."""
        return [""] * len(ids)


class FixedImages:
    """Stands for the processor of an image encoder: every picture in the one size that it takes."""

    def __init__(self, side: int) -> None:
        self._side = side

    def __call__(self, images: Any, **_: Any) -> Any:
        """Pixels of zeros."""
        from transformers import BatchFeature

        count = len(images) if isinstance(images, list) else 1
        return BatchFeature({"pixel_values": torch.zeros(count, 3, self._side, self._side)})


def pipeline_of(recipe: Recipe, modules: dict[str, nn.Module], text: int) -> Any:
    """The pipeline's class around these modules; prompts have ``text`` tokens."""
    import diffusers

    name, config = recipe.style.scheduler
    cls = getattr(diffusers, recipe.pipeline)
    # some pipelines clean prompts with a library that they do not ask for
    vars(import_module(cls.__module__)).setdefault("ftfy", SimpleNamespace(fix_text=str))
    arguments: dict[str, Any] = {**modules, **recipe.style.extras, **recipe.extras}
    arguments["scheduler"] = getattr(diffusers, name)(**config)
    vision = recipe.style.vision
    arguments |= {
        name: FixedTokenizer(length, 0, vision, recipe.hidden) for name, length in recipe.tokenizers(text).items()
    }
    arguments |= {name: getattr(diffusers, cls)() for name, cls in recipe.style.built.items()}
    if recipe.style.image_side:
        arguments["image_processor"] = FixedImages(recipe.style.image_side)
    if recipe.style.modular:
        blocks = getattr(diffusers, cls.default_blocks_name)()
        for name in recipe.style.without:
            blocks.sub_blocks.pop(name)
        pipeline = blocks.init_pipeline()
        pipeline.update_components(**{name: one for name, one in arguments.items() if name in pipeline.components})
        return pipeline
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name != "self" and name not in arguments and parameter.default is not inspect.Parameter.empty:
            arguments[name] = parameter.default
    return cls(**arguments)
