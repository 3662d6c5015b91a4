#!/usr/bin/env bash
# Train a small scene on this machine, cut one object out of it, and show what that did: `scripts/demo.sh [FOLDER]`.
# DEMO_DIR is the folder if none is given (default: demo/), DEMO_STEPS the training steps, DEMO_OBJECT what is kept.
set -euo pipefail
demo=${1:-${DEMO_DIR:-}}
case $demo in '' | /*) ;; *) demo=$PWD/$demo ;; esac
cd "$(dirname "$0")/.."
demo=${demo:-demo}
source scripts/setup.sh

export PYTHONWARNINGS=ignore # those of other packages would hide what happens
object=${DEMO_OBJECT:-torus}
run=$demo/outputs/demo/lg-field-tiny/full
crop=$demo/outputs/crop

# timed STEP COMMAND...: print a command, run it, note how long it took.
timed() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n$ %s\n' "$*"
    "$@"
    printf '%s\t%d\n' "$name" $((SECONDS - begin)) >>"$demo/seconds.tsv"
}

render() { # render NAME CONFIG FOLDER
    timed "$1" ns-render dataset --load-config "$2" --split test --rendered-output-names rgb --image-format png \
        --output-path "$3"
}

box=$(python scripts/demo_scene.py --print-box "$object")
mkdir -p "$demo"
rm -rf "$demo"/{outputs,render,render_crop,seconds.tsv}

if [ ! -e "$demo/scene" ]; then timed "make the scene" python scripts/demo_scene.py "$demo/scene"; fi
timed "train" ns-train lg-field-tiny --data "$demo/scene" --output-dir "$demo/outputs" --experiment-name demo \
    --timestamp full --vis tensorboard --max-num-iterations "${DEMO_STEPS:-2500}"
timed "evaluate" ns-eval --load-config "$run/config.yml" --output-path "$demo/eval.json"
render "render" "$run/config.yml" "$demo/render"
# shellcheck disable=SC2086 # six numbers
timed "crop" crop-scene --load-config "$run/config.yml" --box $box -o "$crop" --overwrite
render "render the crop" "$crop/config.yml" "$demo/render_crop"
timed "mesh" lg-field mesh --load-config "$run/config.yml" -o "$demo/full.ply" --picture "$demo/full_mesh.png" \
    --overwrite
timed "mesh the crop" lg-field mesh --load-config "$crop/config.yml" -o "$demo/crop.ply" \
    --picture "$demo/crop_mesh.png" --overwrite
timed "pack" lg-field pack --load-config "$run/config.yml" -o "$demo/scene.safetensors" --overwrite
echo
python scripts/demo_report.py "$demo" --run "$run" --crop "$crop"
echo "see it in the browser, and crop it there: .venv/bin/lg-field view --web $demo/scene.safetensors"
