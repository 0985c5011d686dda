#!/bin/sh
# usage: build.sh SOURCE BUILD [JOBS]   llama-bench with CUDA for Hopper, without flash attention's kernels (half of the time to compile)
set -eu
cmake -S "$1" -B "$2" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=90 -DGGML_CUDA_FA=OFF \
  -DGGML_NATIVE=ON -DGGML_CUDA_NCCL=OFF -DGGML_CCACHE=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
  -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_CURL=OFF -DCMAKE_POLICY_VERSION_MINIMUM=3.5 > "$2.configure.log" 2>&1 ||
  { tail -30 "$2.configure.log"; exit 4; }
cmake --build "$2" --target llama-bench -j "${3:-16}" > "$2.build.log" 2>&1 ||
  { grep -n -i error "$2.build.log" | head -20; tail -20 "$2.build.log"; exit 5; }
