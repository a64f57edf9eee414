#!/usr/bin/env bash
# Makes biod2c-tiny from the data to the folder that the package embeds, in one command:
#
#   BIOD2C_DATA=../shared/data recipes/tiny/make.sh runs/tiny official
#
# Variants: official (what ships), disjoint (trained without the test images), tune (for choosing).
# Run it again after a kill: it goes on where it stopped.
set -euo pipefail
out=${1:?usage: make.sh OUT [official|disjoint|tune]}
variant=${2:-official}
preset=tiny
. "$(dirname "$0")/steps.sh"

case $variant in official | disjoint | tune) ;; *) echo "unknown variant $variant" >&2; exit 2 ;; esac

prepare
[ -f "$out/$variant-language/model.safetensors" ] || python3 "$tiny/make_parts.py" language \
  "$out/$variant-language" --text "$out/data/${variant}_language.txt" --seed 0
train 1 "$out/$variant-stage1" --data "$out/data/${variant}_captions.jsonl" \
  --set "model.vision.weights=$out/trunk.safetensors" \
  --set "model.language_model=$out/$variant-language"
# One thing at a time is learned first, by itself: where to look and then, begun anew and slower, what
# to answer; afterwards it is met often enough to stay.
single=(--data "$out/data/${variant}_single.jsonl")
train 2 "$out/$variant-look" "${split[@]}" "${single[@]}" --set stage2.epochs=3 \
  --model "$out/$variant-stage1/model"
train 2 "$out/$variant-read" "${split[@]}" "${single[@]}" --set stage2.epochs=4 \
  --set stage2.learning_rate=5e-4 --set stage2.schedule=linear --model "$out/$variant-look/model"
again 11
everything=(--data "$out/data/${variant}_train.jsonl" "${own[@]}" "${single[@]}" "${single[@]}")
train 2 "$out/$variant-stage2" "${split[@]}" "${everything[@]}" --model "$out/$variant-read/model"
# At a lower rate, a part of everything once more and what a blank picture does not show.
blank=(--data "$out/data/${variant}_blank.jsonl")
train 2 "$out/$variant-settle" "${split[@]}" "${everything[@]}" \
  "${blank[@]}" "${blank[@]}" "${blank[@]}" \
  --set stage2.epochs=0.2 --set stage2.learning_rate=3e-4 --set stage2.schedule=linear \
  --model "$out/$variant-stage2/model"
# Last, from new adapters, what takes many examples: yes or no about whole images, what few images show,
# and VQA-RAD once more.
merge "$out/$variant-settled" "$out/$variant-settle/model"
again 26
scarce=(--data "$out/data/${variant}_scarce.jsonl")
train 2 "$out/$variant-finish" "${split[@]}" --data "$out/data/${variant}_train.jsonl" "${own[@]}" \
  "${single[@]}" "${single[@]}" --data "$out/data/${variant}_whole.jsonl" \
  "${scarce[@]}" "${scarce[@]}" "${scarce[@]}" \
  --set stage2.attention_weight=1 --set stage2.answer_weight=2 --set stage2.epochs=1.3 \
  --set stage2.learning_rate=5e-4 --set stage2.schedule=linear --model "$out/$variant-settled"
report "$out/$variant-finish/model" "$out/$variant-scores"

if [ "$variant" = official ]; then
  merge "$out/biod2c-tiny" "$out/official-finish/model"
  biod2c calibrate "$out/data/validation.jsonl" --model "$out/biod2c-tiny"
fi
