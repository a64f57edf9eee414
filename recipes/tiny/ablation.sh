#!/usr/bin/env bash
# The paper's Table 2, small: what each part is worth. After make.sh has made the official variant:
#
#   BIOD2C_DATA=../shared/data recipes/tiny/ablation.sh runs/tiny
#
# Five arms, three seeds each, 480 steps of stage 2 from the recipe's own stage 1; without fusion, from
# a stage 1 without it. Run it again after a kill: it goes on where it stopped.
set -euo pipefail
out=${1:?usage: ablation.sh OUT}
variant=official
preset=tiny
. "$(dirname "$0")/steps.sh"
stage1=$out/official-stage1/model
[ -d "$stage1" ] || { echo "no $stage1; run recipes/tiny/make.sh $out official first" >&2; exit 2; }

train 1 "$out/ablation/no_fusion-stage1" --data "$out/data/official_captions.jsonl" \
  --set "model.vision.weights=$out/trunk.safetensors" \
  --set "model.language_model=$out/official-language" --set model.fusion=off

again 11
for seed in 0 1 2; do
  short=(--max-steps 480 --seed "$seed")
  questions() { # arm, model of stage 1, further options
    train 2 "$out/ablation/$1-$seed" "${split[@]}" --data "$out/data/official_train.jsonl" "${own[@]}" \
      --data "$out/data/official_single.jsonl" --data "$out/data/official_single.jsonl" \
      --model "$2" "${short[@]}" "${@:3}"
  }
  questions full "$stage1"
  questions no_sem "$stage1" --set model.semantic_loss=off
  questions released_sem "$stage1" --set model.semantic_loss=released
  questions no_fusion "$out/ablation/no_fusion-stage1/model"
  train 2 "$out/ablation/vqa_rad_only-$seed" "${split[@]}" \
    --data "$out/data/official_vqa_rad.jsonl" --model "$stage1" "${short[@]}"
  python3 "$tiny/ablation.py" "$out"
done
