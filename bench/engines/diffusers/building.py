"""Modules and pipelines from configurations: parameters without data first, filled by whoever asks for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

from bench.engines.diffusers.recipes import ComponentRecipe, Recipe

Fill = Callable[[str, torch.Tensor, torch.dtype], torch.Tensor]


def empty_module(part: ComponentRecipe) -> nn.Module:
    """The component's class with its configuration, parameters on the meta device, buffers real.

    Raises InputError for a class that the installed library lacks.
    """
    library = __import__(part.library)
    cls = getattr(library, part.cls)
    with init_empty_weights():
        if part.library == "diffusers":
            module = cls(**_known(cls, part.config))
        else:
            config = cls.config_class(**_nested(cls, part.config))
            module = cls(config)
    if part.library == "transformers":
        module.tie_weights()
    return module.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _known(cls: type, config: Any) -> dict[str, Any]:
    accepted = inspect.signature(cls).parameters
    return {name: value for name, value in config.items() if name in accepted}


def _nested(cls: Any, config: Any) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}


def dtype_of(part: ComponentRecipe, module: nn.Module, name: str) -> torch.dtype:
    """What a parameter is loaded in: the component's dtype, except for what its class keeps in fp32."""
    kept = getattr(module, "_keep_in_fp32_modules", None) or () if part.library == "diffusers" else ()
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


class FixedTokenizer:
    """Stands for a tokenizer: as many random ids as the recipe says, so that no vocabulary is needed."""

    def __init__(self, length: int, padded: int = 0) -> None:
        self.length, self.model_max_length = length, max(length, padded)
        self.padding_side = "right"
        self.added_tokens_encoder: dict[str, int] = {}

    def __call__(self, text: Any, padding: Any = False, max_length: int | None = None, **_: Any) -> Any:
        """Ids and their mask, padded as asked."""
        from transformers import BatchEncoding

        rows = 1 if isinstance(text, str) else len(text)
        # what is asked for again without truncation is only compared by length
        width = max_length if padding == "max_length" and max_length else 1 if padding == "longest" else self.length
        generator = torch.Generator().manual_seed(width)
        ids = torch.randint(3, 1000, (rows, width), generator=generator)
        mask = torch.ones((rows, width), dtype=torch.long)
        mask[:, self.length :] = 0
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})

    def apply_chat_template(self, messages: Any, **_: Any) -> str:
        """Any text: its length decides nothing here."""
        return str(messages)

    def tokenize(self, text: str, **_: Any) -> list[str]:
        """Words: none of them is an embedding of textual inversion."""
        return text.split()

    def batch_decode(self, ids: Any, **_: Any) -> list[str]:
        """Nothing to read in random ids."""
        return [""] * len(ids)


def pipeline_of(recipe: Recipe, modules: dict[str, nn.Module], text: int) -> Any:
    """The pipeline's class around these modules; prompts have ``text`` tokens."""
    import diffusers

    name, config = recipe.style.scheduler
    cls = getattr(diffusers, recipe.pipeline)
    arguments: dict[str, Any] = {**modules, **recipe.style.extras, **recipe.extras}
    arguments["scheduler"] = getattr(diffusers, name)(**config)
    arguments |= {name: FixedTokenizer(length) for name, length in recipe.tokenizers(text).items()}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name != "self" and name not in arguments and parameter.default is not inspect.Parameter.empty:
            arguments[name] = parameter.default
    return cls(**arguments)
