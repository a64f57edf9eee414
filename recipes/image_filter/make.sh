#!/usr/bin/env bash
# Makes the embedded image filter from the data, in one command:
#
#   BIOD2C_DATA=../shared/data recipes/image_filter/make.sh runs/image-filter
#
# Then `cp runs/image-filter/filter/{filter.json,head.safetensors} biod2c_core/assets/image-filter/`.
# Whatever is there already is kept: features are computed once, also over a kill.
set -euo pipefail
out=${1:?usage: make.sh OUT}
here=$(dirname "$0")
export OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1

[ -f "$out/labels.csv" ] || python3 "$here/generate.py" "$out"
biod2c filter-images fit "$out/labels.csv" -o "$out/filter"
python3 "$here/report.py" "$out" | tee "$out/report.md"
