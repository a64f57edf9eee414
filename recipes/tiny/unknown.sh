#!/usr/bin/env bash
# How a model speaks of a kind of picture that it has never met. After make.sh has made the official variant:
#
#   BIOD2C_DATA=../shared/data recipes/tiny/unknown.sh runs/tiny ultrasound
#
# trains trunk, language model and both stages without the kind, in the short form, calibrates, and asks.
set -euo pipefail
out=${1:?usage: unknown.sh OUT MODALITY}
modality=${2:?usage: unknown.sh OUT MODALITY}
variant=no_${modality,,}
variant=${variant// /_}
. "$(dirname "$0")/steps.sh"
unknown() { python3 "$tiny/unknown.py" "$1" "$out" "$modality" "${@:2}"; }

[ -f "$out/data/${variant}_language.txt" ] || unknown records --data "$data"
unknown trunk --data "$data" | tee "$out/$variant-familiarity.md"
language 1
short_records
short_stage1 "$out/$variant-stage1" "$out/$variant-trunk.safetensors"
train 2 "$out/$variant-stage2" --data "$(of short_stage2)" --model "$out/$variant-stage1/model"
finished "$out/$variant-stage2/model" "$(of development_own)" "$(of development_new)"
unknown score --model "$out/$variant-model" | tee "$out/$variant-scores.md"
