#!/usr/bin/env bash
# Makes biod2c-tiny from the data to the folder that the package embeds, in one command:
#
#   BIOD2C_DATA=../shared/data recipes/tiny/make.sh runs/tiny official
#
# Variants: official (what ships), disjoint (trained without the test images), tune (for choosing).
# Whatever is there already is kept, and a killed training goes on where it stopped: run it again.
set -euo pipefail
out=${1:?usage: make.sh OUT [official|disjoint|tune]}
variant=${2:-official}
here=$(dirname "$0")
export OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 BIOD2C_CACHE=${BIOD2C_CACHE:-$out/cache}

case $variant in official | disjoint | tune) ;; *) echo "unknown variant $variant" >&2; exit 2 ;; esac

"$here/prepare.sh" "$out"
[ -f "$out/$variant-language/model.safetensors" ] || python3 "$here/make_parts.py" language \
  "$out/$variant-language" --text "$out/data/${variant}_language.txt" --seed 0

train() { # stage, run folder, further options
  local stage=$1 run=$2
  shift 2
  [ -d "$run/model" ] || biod2c train --stage "$stage" --preset tiny --resume -o "$run" "$@"
}
train 1 "$out/$variant-stage1" --data "$out/data/${variant}_captions.jsonl" \
  --set "model.vision.weights=$out/trunk.safetensors" \
  --set "model.language_model=$out/$variant-language"
# Of each epoch, VQA-RAD's own questions make about two thirds: they have to be met many times.
again=()
for _ in {1..11}; do again+=(--data "$out/data/${variant}_vqa_rad.jsonl"); done
train 2 "$out/$variant-stage2" --data "$out/data/${variant}_train.jsonl" "${again[@]}" \
  --model "$out/$variant-stage1/model"

python3 "$here/report.py" "$variant" "$out/$variant-stage2/model" "$out/data" "$out/$variant-scores" \
  | tee "$out/$variant-scores.md"
if [ "$variant" = official ]; then
  [ -d "$out/biod2c-tiny" ] ||
    biod2c export "$out/biod2c-tiny" --model "$out/official-stage2/model" --dtype float16
  biod2c calibrate "$out/data/validation.jsonl" --model "$out/biod2c-tiny"
fi
