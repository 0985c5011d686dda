"""Memory of language models under llama.cpp: weights, caches, compute buffers, by device.

The way in::

    from fitcheck.runtimes.llamacpp.buffers import estimate
    from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
    from fitcheck.models.families.language.metadata import architecture_from_gguf

    header = read_gguf(path)                                   # or read_remote(...)
    architecture = architecture_from_gguf(header.metadata, header.tensors)
    options = LlamaOptions(context=8192)
    result = estimate(architecture, header.tensors, options, vram=[12 << 30], disk=header.file_bytes)

``result.cards`` and ``result.host`` hold the buffers as llama.cpp prints them, ``result.card_totals`` the interval that
a card's whole use lies in, ``result.footprint`` the phases load, prefill and decode for the common verdict (of the
fullest card). Without a file, ``mixture_table(architecture, "Q4_K_M")`` gives the table llama-quantize would write.

Nothing here is fitted: weights follow the loader, caches their layout, and compute buffers come from replaying the
scheduler and the graph allocator on the model's graph (graph, layers, schedule, allocator). What cannot be derived, the
driver's and libraries' share, stands in ``data/llamacpp_overhead.json``.
"""
