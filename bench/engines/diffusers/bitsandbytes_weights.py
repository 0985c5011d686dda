"""bitsandbytes' weights as diffusers makes them of a checkpoint in 16 bits: by its own quantizers, matrix by matrix, on
the device that computes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import nn

from bench.engines.diffusers.building import dtype_of, parameters_of
from bench.engines.diffusers.recipes import ComponentRecipe
from bench.engines.diffusers.synthetic_weights import Synthetic
from fitcheck.models.tensors import Tensor

FORMAT = "bitsandbytes"
_TYPES = {torch.uint8: "U8", torch.int8: "I8", torch.float32: "F32"}


def fill(part: ComponentRecipe, module: nn.Module, tier: str, source: Synthetic, prefix: str, device: str) -> nn.Module:
    """The module on the meta device with its linears replaced, and all parameters on ``device`` (diffusers 0.42.1,
    models/modeling_utils.py, ``from_pretrained`` with a quantization config: all of the model is loaded there)."""
    quantizer = _quantizer(tier, getattr(torch, part.dtype))
    kept = list(getattr(module, "_keep_in_fp32_modules", None) or ())
    quantizer.preprocess_model(model=module, device_map=None, keep_in_fp32_modules=kept)
    for _, _, name, one, _ in list(parameters_of(part, module)):
        value = source.dense(f"{prefix}{name}", one, dtype_of(part, module, name))
        source.finish()  # one after the other, so that no more than one waits in 16 bits
        _put(quantizer, module, name, value, device)
    quantizer.postprocess_model(module)
    for path, owner in module.named_modules():
        for leaf, buffer in list(owner._buffers.items()):
            if buffer is not None:
                owner._buffers[leaf] = buffer.to(device)
        assert all(one is None or not one.is_meta for one in owner._parameters.values()), path
    return module.requires_grad_(False)


def _put(quantizer: Any, module: nn.Module, name: str, value: torch.Tensor, device: str) -> None:
    if quantizer.check_if_quantized_param(module, value, name, {}, param_device=device):
        quantizer.create_quantized_param(module, value, name, torch.device(device), {}, [])
        return
    owner, _, leaf = name.rpartition(".")
    module.get_submodule(owner)._parameters[leaf] = nn.Parameter(value.to(device), requires_grad=False)


def _quantizer(tier: str, dtype: torch.dtype) -> Any:
    """diffusers' own, as its documentation configures it."""
    diffusers: Any = import_module("diffusers")
    auto: Any = import_module("diffusers.quantizers.auto")
    asked = {"load_in_8bit": True} if tier == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": tier}
    config = diffusers.BitsAndBytesConfig(**asked, bnb_4bit_compute_dtype=dtype)
    return auto.DiffusersAutoQuantizer.from_config(config, pre_quantized=False)


def tensors(name: str, parameter: nn.Parameter, branch: str) -> Iterator[Tensor]:
    """A quantized matrix and what is kept beside it: of 4 bits the largest of each block and the code, of 8 bits a
    scale for each row. Nothing of any other parameter."""
    state, scales = getattr(parameter, "quant_state", None), getattr(parameter, "SCB", None)
    if state is not None:
        beside = {"absmax": state.absmax, "quant_map": state.code}
    elif scales is not None:
        beside = {"SCB": scales}
    else:
        return
    for full, one in {name: parameter, **{f"{name}.{key}": value for key, value in beside.items()}}.items():
        yield Tensor(f"{branch}.{full}", tuple(one.shape), _TYPES[one.dtype], branch=branch)
