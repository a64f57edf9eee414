#!/usr/bin/env bash
# The paper's Table 2, small: what each part is worth. After make.sh has made the official variant:
#
#   recipes/tiny/ablation.sh runs/tiny SEED [ARM ...]
#
# trains the arms of one seed on one core; several seeds can be trained side by side. The arm `disjoint`, which never
# sees an image of VQA-RAD's test split, is for docs/benchmarks.md. Run it again after a kill.
set -euo pipefail
out=${1:?usage: ablation.sh OUT SEED [ARM ...]}
seed=${2:?usage: ablation.sh OUT SEED [ARM ...]}
variant=official
. "$(dirname "$0")/steps.sh"
arms=("${@:3}")
[ ${#arms[@]} -gt 0 ] || arms=(full no_sem released_sem no_fusion vqa_rad_only)
for arm in "${arms[@]}"; do
  [ "$arm" = disjoint ] && variant=disjoint || variant=official
  short_records
  mix short_vqa_rad "$(of vqa_rad)=2.5" # as often as in all other arms
  run=$out/ablation/$arm-$seed stage1=$out/ablation/stage1-$seed records=$(of short_stage2) switch=()
  case $arm in
    disjoint) stage1=$out/ablation/disjoint-stage1-$seed; language 2 ;;
    full) ;;
    no_sem) switch=(--set model.semantic_loss=off) ;;
    released_sem) switch=(--set model.semantic_loss=released) ;;
    no_fusion) stage1=$out/ablation/no_fusion-stage1-$seed ;;
    vqa_rad_only) records=$(of short_vqa_rad) ;;
    *) echo "unknown arm $arm" >&2; exit 2 ;;
  esac
  fusion=on
  [ "$arm" != no_fusion ] || fusion=off
  short_stage1 "$stage1" "$out/trunk.safetensors" --seed "$seed" --set "model.fusion=$fusion"
  train 2 "$run" --data "$records" --model "$stage1/model" --seed "$seed" "${switch[@]}"
done
