#!/usr/bin/env bash
# Makes biod2c-tiny from the data to the folder that the package embeds, in one command:
#
#   BIOD2C_DATA=../shared/data recipes/tiny/make.sh runs/tiny [official|disjoint]
#
# Run it again after a kill: it goes on where it stopped.
set -euo pipefail
out=${1:?usage: make.sh OUT [official|disjoint]}
variant=${2:-official}
case $variant in official | disjoint) ;; *) echo "unknown variant $variant" >&2; exit 2 ;; esac
. "$(dirname "$0")/steps.sh"

# 1. Records and pictures. 2. Trunk: ImageNet's weights, pretrained further. 3. Language model.
records
imagenet
trunk
language 2

# 4. Stage 1: the fusion module, on captions, where single things are, and findings.
mix stage1 "$(of captions)=0.5" "$(of single)=2" "$(of findings)"
train 1 "$out/$variant-stage1" "${split[@]}" --data "$(of stage1)" \
  --set "model.vision.weights=$out/trunk.safetensors" --set "model.language_model=$out/$variant-language"

# 5. Stage 2: fusion module and LoRA, on all questions; those about few pictures are met often.
mix stage2 "$(of kinds)" "$(of findings)=4" "$(of things)" "$(of vqa_rad)=12" "$(of reworded)"
train 2 "$out/$variant-stage2" "${split[@]}" --data "$(of stage2)" --model "$out/$variant-stage1/model"

# 6. Look: where a single thing is, and nothing else, until the answer follows the map.
train 2 "$out/$variant-look" "${split[@]}" --data "$(of single)" --model "$out/$variant-stage2/model" \
  --set stage2.epochs=3

# 7. Finish: all questions again, single things and VQA-RAD's, which few pictures answer, more often.
mix finish "$(of kinds)=0.4" "$(of findings)" "$(of vqa_rad)=8" "$(of single)=2" "$(of things)=0.3" \
  "$(of reworded)=0.2"
train 2 "$out/$variant-finish" "${split[@]}" --data "$(of finish)" --model "$out/$variant-look/model" \
  --set stage2.learning_rate=7e-4

# 8. The folder.
finished "$out/$variant-finish/model" "$out/data/development_own.jsonl" "$out/data/development_new.jsonl"
