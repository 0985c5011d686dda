#!/bin/sh
# usage: build.sh LLAMA_CPP_SOURCE LLAMA_CPP_BUILD OUTPUT   (the build has to have shared libraries)
set -eu
c++ -std=c++17 -O1 -I"$1/include" -I"$1/ggml/include" -I"$1/ggml/src" "$(dirname "$0")/probe.cpp" \
  -L"$2/bin" -lllama -lggml -lggml-base -lggml-cpu -Wl,-rpath,"$2/bin" -o "$3"
