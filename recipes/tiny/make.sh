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
# to answer, now also which of two arrows is meant; afterwards it is met often enough to stay.
single=(--data "$out/data/${variant}_single.jsonl")
arrows=(--data "$out/data/${variant}_arrows.jsonl")
train 2 "$out/$variant-look" "${split[@]}" "${single[@]}" --set stage2.epochs=3 \
  --model "$out/$variant-stage1/model"
train 2 "$out/$variant-read" "${split[@]}" "${single[@]}" "${arrows[@]}" --set stage2.epochs=3 \
  --set stage2.learning_rate=5e-4 --set stage2.schedule=linear --model "$out/$variant-look/model"
# Then everything: what blank pictures do not show, what few images show twice, and VQA-RAD's questions
# many times, in their own words and in others.
again 14
reworded=(--data "$out/data/${variant}_reworded.jsonl")
scarce=(--data "$out/data/${variant}_scarce.jsonl")
train 2 "$out/$variant-stage2" "${split[@]}" --data "$out/data/${variant}_train.jsonl" \
  "${own[@]}" "${reworded[@]}" "${reworded[@]}" "${single[@]}" "${single[@]}" "${arrows[@]}" \
  "${scarce[@]}" "${scarce[@]}" --data "$out/data/${variant}_whole.jsonl" \
  --data "$out/data/${variant}_blank.jsonl" \
  --set stage2.attention_weight=1.5 --set stage2.answer_weight=2 --set stage2.epochs=1.15 \
  --set stage2.schedule=linear --model "$out/$variant-read/model"
# Slower, what is learned from many examples: places, arrows, and what few images show.
again 3
train 2 "$out/$variant-finish" "${split[@]}" --data "$out/data/${variant}_train.jsonl" "${own[@]}" \
  "${single[@]}" "${arrows[@]}" "${scarce[@]}" --set stage2.attention_weight=1 \
  --set stage2.answer_weight=2 --set stage2.epochs=1 --set stage2.learning_rate=5e-4 --set stage2.schedule=linear \
  --model "$out/$variant-stage2/model"
# Last, what lies under the map is read once more, on thousands of arrows that are not met often enough to
# be known by heart; and again, slower, with as many others, and with vessels that alone tell the contrast
# medium. From the exported file on, so that it can be repeated from one.
merge "$out/$variant-finished" "$out/$variant-finish/model"
train 2 "$out/$variant-point" "${split[@]}" --data "$out/data/${variant}_train.jsonl" "${own[@]}" \
  "${single[@]}" "${arrows[@]}" "${scarce[@]}" --data "$out/data/${variant}_further.jsonl" \
  --set model.attention_readout=true --set model.mix_neighbours=true --set stage2.attention_weight=1.5 \
  --set stage2.answer_weight=2 --set stage2.epochs=1 --set stage2.learning_rate=7e-4 --set stage2.schedule=linear \
  --model "$out/$variant-finished"
train 2 "$out/$variant-settle" "${split[@]}" --data "$out/data/${variant}_train.jsonl" "${own[@]}" \
  "${single[@]}" "${scarce[@]}" "${scarce[@]}" --data "$out/data/${variant}_further.jsonl" \
  --data "$out/data/${variant}_fresh.jsonl" --data "$out/data/${variant}_vessels.jsonl" \
  --set stage2.attention_weight=1.5 --set stage2.answer_weight=2 --set stage2.epochs=1 \
  --set stage2.learning_rate=5e-4 --set stage2.schedule=linear --model "$out/$variant-point/model"
report "$out/$variant-settle/model" "$out/$variant-scores"

if [ "$variant" = official ]; then
  merge "$out/biod2c-tiny" "$out/official-settle/model"
  biod2c calibrate "$out/data/validation.jsonl" --model "$out/biod2c-tiny" \
    --train "$out/data/official_train.jsonl" --train "$out/data/official_vqa_rad.jsonl"
fi
