"""``--split-mode tensor``: every card has a part of each matrix and of each cache, and the whole of what is small.

llama.cpp makes one device of all cards (src/llama.cpp, ggml-backend-meta.cpp), on which the graph is that of a single
card. Which tensors are parted is llama_meta_device_get_split_state of src/llama-model.cpp; all others lie on every
card.
"""

from __future__ import annotations

import re

from fitcheck.data_files import load
from fitcheck.errors import OptionError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import LAYER, LlamaOptions
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, TensorPlaces

_PARTED = re.compile(
    r"blk\.\d+\.(?:attn_(?:q|k|v|qkv|output|gate)\.weight|attn_(?:q|k|v|qkv)\.bias|attn_sinks\.weight"
    r"|ssm_(?:dt\.bias|a|alpha\.weight|beta\.weight|ba\.weight|conv1d\.weight|out\.weight)"
    r"|ffn_(?:up|gate|gate_up|down)(?:_exps)?\.weight|ffn_(?:up|gate)(?:_exps)?\.bias)|output\.(?:weight|bias)"
)


def as_one_card(architecture: LanguageArchitecture, options: LlamaOptions) -> LlamaOptions:
    """The run on the one device that stands for all cards: it takes over no work on the host's weights. Raises
    OptionError for an architecture that llama.cpp does not run so."""
    known = load("runtimes.llamacpp", "support")["no_tensor_split"]["architectures"]
    if architecture.name in known:
        raise OptionError(f"--split-mode: llama.cpp does not share tensors of {architecture.name}; choose layer.")
    if options.overrides:
        raise OptionError("--override-tensor: with --split-mode tensor no card can be named; leave one of them out.")
    return options.with_(split_mode=LAYER, tensor_split=(), main_gpu=0, op_offload=False)


def shares_of(options: LlamaOptions, cards: int) -> list[float]:
    """Each card's part: as told, else the same."""
    told = [*options.tensor_split[:cards], *[0.0] * (cards - len(options.tensor_split))]
    return [one / sum(told) for one in told] if any(told) else [1 / cards] * cards


def parted(architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices) -> int:
    """Bytes of the tensors of the one device that are parted among the cards."""
    names = {tensor.name: tensor for tensor in tensors}
    places = TensorPlaces(architecture, names, options, devices)
    left_out = frozenset() if options.predicts else architecture.predicting
    return sum(
        tensor.nbytes
        for tensor in tensors
        if tensor.layer not in left_out and _PARTED.fullmatch(tensor.name) and places[tensor.name] != HOST
    )


def keeps_states(architecture: LanguageArchitecture) -> bool:
    """Whether recurrent states lie whole on every card."""
    return architecture.name in ("lfm2", "lfm2moe")
