"""The commands that make a file and run it, as llama.cpp's programs take them."""

from __future__ import annotations

import shlex

from fitcheck.models.companions import DRAFT, Companion
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.runtimes.downloads import FOLDER
from fitcheck.runtimes.llamacpp.arguments import DRAFT_TOKENS, LlamaOptions, device_text, override_text
from fitcheck.runtimes.llamacpp.flash import switched
from fitcheck.runtimes.llamacpp.placement import gpu_layers_flag


def server(tier: Tier, options: LlamaOptions, architecture: LanguageArchitecture, *, projects: bool = False) -> str:
    """The ``llama-server`` command line that means the same as ``options`` for such a model; ``projects`` says that a
    projector goes with it, which its repository holds."""
    layers = architecture.layers
    parts = ["llama-server", _source(tier), f"-c {options.context}", f"-ngl {gpu_layers_flag(options, layers)}"]
    if options.cpu_moe_layers:
        everything = options.cpu_moe_layers >= layers
        parts.append("--cpu-moe" if everything else f"--n-cpu-moe {options.cpu_moe_layers}")
    parts += _flash(options)
    if architecture.embeds:
        parts.append("--reranking" if architecture.reranks else "--embeddings")
    parts += _beside(tier, options, projects)
    parts += [text for wanted, text in _switches(options) if wanted]
    return " ".join(parts)


def _flash(options: LlamaOptions) -> list[str]:
    if switched(options.build):
        return ["-fa"] if options.flash else []
    if options.flash_attention is None and options.cache_type_v == "f16":
        return []
    return ["-fa on" if options.flash else "-fa off"]


def _source(tier: Tier) -> str:
    if tier.local_path is None and tier.repository and tier.file:
        return f"--hf-repo {shlex.quote(tier.repository)} --hf-file {shlex.quote(tier.file)}"
    if _fetched(tier):  # the repository's file of that tier
        return f"-hf {shlex.quote(f'{tier.repository}:{tier.name}')}"
    return f"-m {shlex.quote(tier.local_path or tier.file or f'{tier.name}.gguf')}"


def _beside(tier: Tier, options: LlamaOptions, projects: bool) -> list[str]:
    """The files beside the model's. A projector of the same repository is found without a word, so one that was not
    counted is left out by name."""
    flags = {"projector": "--mmproj", "adapter": "--lora", "control vector": "--control-vector"}
    found = []
    for one in tier.companions:
        if one.role == DRAFT:
            found += _draft(one, options)
        elif one.role == "projector" and not options.projector:
            found.append("--no-mmproj")
        elif one.path is not None or one.role != "projector":
            found.append(f"{flags[one.role]} {shlex.quote(one.path or one.file)}")
    counted = any(one.role == "projector" for one in tier.companions)
    return found if counted or not (projects and _fetched(tier)) else [*found, "--no-mmproj"]


def _fetched(tier: Tier) -> bool:
    """Whether llama-server chooses the files of a repository itself (``-hf``)."""
    return tier.local_path is None and tier.repository is not None and not tier.file


def _draft(draft: Companion, options: LlamaOptions) -> list[str]:
    """The second model and where it lies. Since June 2026 it drafts only where that is asked for."""
    if draft.path is None and draft.repository:
        named = f"{draft.repository}:{draft.kind}" if not draft.file else draft.repository
        source = f"-hfd {shlex.quote(named)}" + (f" -md {shlex.quote(draft.file)}" if draft.file else "")
    else:
        source = f"-md {shlex.quote(draft.path or draft.file or f'{draft.name} {draft.kind}.gguf')}"
    asked = [f"--spec-type {options.speculative}"] if options.build.has("explicit_draft") else []
    devices = options.draft_devices
    switches = (
        (options.draft_layers is not None, f"-ngld {options.draft_layers}"),
        (devices is not None, f"-devd {device_text(devices) if devices else 'none'}"),
        (options.draft_type_k != "f16", f"-ctkd {options.draft_type_k}"),
        (options.draft_type_v != "f16", f"-ctvd {options.draft_type_v}"),
        (options.draft_context != 0, f"-cd {options.draft_context}"),
    )
    return [source, *asked, *(text for wanted, text in switches if wanted)]


def worker(address: str) -> str:
    """What runs on the machine of a worker."""
    return f"ggml-rpc-server -H 0.0.0.0 -p {address.rpartition(':')[2]}"


def _switches(options: LlamaOptions) -> tuple[tuple[bool, str], ...]:
    """(whether it differs from llama.cpp's default, the switch)."""
    return (
        (options.cache_type_k != "f16", f"-ctk {options.cache_type_k}"),
        (options.cache_type_v != "f16", f"-ctv {options.cache_type_v}"),
        (options.micro_batch != 512, f"-ub {options.micro_batch}"),
        (options.batch != 2048, f"-b {options.batch}"),
        (options.sequences is not None, f"-np {options.sequences}"),
        (options.unified is True, "--kv-unified"),
        (options.predicts, f"--spec-type {options.speculative}"),
        (options.speculative is not None and _unusual(options), _ahead(options)),
        (options.split_mode != "layer", f"-sm {options.split_mode}"),
        (bool(options.workers), f"--rpc {','.join(options.workers)}"),
        (options.main_gpu != 0, f"-mg {options.main_gpu}"),
        (bool(options.overrides), f"-ot {shlex.quote(override_text(options.overrides))}"),
        (any(options.tensor_split), "-ts " + ",".join(f"{share:g}" for share in options.tensor_split)),
        (options.cache_ram is not None, f"-cram {options.cache_ram}"),
        (options.projector_on_host and options.projector, "--no-mmproj-offload"),
        (options.full_sliding_cache, "--swa-full"),
        (options.cache_on_host, "--no-kv-offload"),
        (not options.mmap, "--no-mmap"),
        (options.mlock, "--mlock"),
        (not options.repack, "--no-repack"),
    )


def _unusual(options: LlamaOptions) -> bool:
    """Whether the number of tokens drafted ahead is not the program's own; before April 2026 that was another one."""
    return options.drafted != DRAFT_TOKENS or not options.build.has("spec_arguments")


def _ahead(options: LlamaOptions) -> str:
    name = "--spec-draft-n-max" if options.build.has("spec_arguments") else "--draft-max"
    return f"{name} {options.drafted}"


def convert(model: Model, tier: Tier) -> tuple[str, ...]:
    """How a checkpoint becomes a GGUF tier with llama.cpp's own tools; empty when it is not known where it lies."""
    source = model.repository or model.slug
    folder = source if model.repository is None else f"{FOLDER}/{source.rpartition('/')[2]}"
    fetch = () if model.repository is None else (shlex.join(["hf", "download", source, "--local-dir", folder]),)
    whole, made = f"{source.rpartition('/')[2]}-BF16.gguf", tier.file or f"{tier.name}.gguf"
    to_gguf = ["python", "convert_hf_to_gguf.py", folder, "--outtype", "bf16", "--outfile"]
    if tier.name == "BF16":
        return (*fetch, shlex.join([*to_gguf, made]))
    return (*fetch, shlex.join([*to_gguf, whole]), shlex.join(["llama-quantize", whole, made, tier.name]))
