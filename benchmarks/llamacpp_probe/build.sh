#!/bin/sh
# usage: build.sh LLAMA_CPP_SOURCE LLAMA_CPP_BUILD OUTPUT   (the build has to have shared libraries)
# makes OUTPUT, and OUTPUT-projector where the build has mtmd
set -eu
here="$(dirname "$0")"
cuda="$1/ggml/src/ggml-cuda"
work="$(mktemp -d)"
trap 'rm -r "$work"' EXIT

# prints from the line that starts with $2 in file $1 to the first one that starts with $3
cut_out() { awk -v from="$2" -v to="$3" 'index($0, from) == 1 {on = 1} on {print} on && index($0, to) == 1 {exit}' "$1"; }

# what CUDA's backend keeps in memory for its fused operations is decided by its own code, which needs no card
if grep -q add_alloc_dep "$cuda/ggml-cuda.cu"; then
  {
    echo 'struct ggml_backend_cuda_context;'
    cut_out "$cuda/ggml-cuda.cu" 'static constexpr int MOE_WEIGHTED_REDUCTION_MAX_EXPERTS' 'struct ggml_cuda_moe' | sed '$d'
    cut_out "$cuda/ggml-cuda.cu" 'struct ggml_cuda_moe_weighted_reduction_match {' '};'
    cut_out "$cuda/ggml-cuda.cu" 'static bool ggml_cuda_match_moe_weighted_reduction(' '}'
    cut_out "$cuda/topk-moe.cuh" 'struct ggml_cuda_topk_moe_args {' '};'
    cut_out "$cuda/topk-moe.cu" 'bool ggml_cuda_should_use_topk_moe(' '}'
    cut_out "$cuda/ggml-cuda.cu" 'static bool ggml_cuda_topk_moe_fusion(' '}'
    cut_out "$cuda/ggml-cuda.cu" 'static void ggml_backend_cuda_graph_optimize(' '#ifdef USE_CUDA_GRAPH' | sed '$d'
    echo '}'
  } > "$work/cuda_fusion.inc"
fi
compile() {
  c++ -std=c++17 -O1 -I"$1/include" -I"$1/ggml/include" -I"$1/ggml/src" -I"$1/tools/mtmd" -I"$work" "$here/$4" \
    -L"$2/bin" $5 -lllama -lggml -lggml-base -lggml-cpu -Wl,-rpath,"$2/bin" -o "$3"
}
compile "$1" "$2" "$3" probe.cpp ""
if [ -e "$2/bin/libmtmd.so" ]; then
  compile "$1" "$2" "$3-projector" projector.cpp -lmtmd
fi
