#!/usr/bin/env bash
# Checks every backend on this machine against PyTorch, and measures it; made for machines with an NVIDIA GPU.
#   benchmarks/gpu_check.sh [--self-test] [--data-root DIR] [--checkpoint CKPT] [--minutes 8] OUT_DIR
# Needs a checkout, python3 (3.10 to 3.13) with numpy, Pillow, torch (2.6 or later), safetensors, onnx, onnxscript and
# onnxruntime, and what shall be checked: onnxruntime-gpu, tensorrt, tensorrt-rtx, with pycuda or cuda-python for the
# GPU. DIR holds MNIST in torchvision's layout (or QUILLRT_DATA); without it the images are scikit-learn's digits, and
# without that noise. No network.
# Writes result.json, result.md, latency.png and log.txt into OUT_DIR, the first two anew after each step. Exit code 0:
# all that ran agrees, and where there is a GPU nothing failed that could have run on it; else 1.
# PYTHON=... chooses another Python. --self-test: short rows, for machines without a GPU too; fails also if ONNX Runtime,
# or TensorRT-RTX's builder where it is installed, did not do all its steps.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
mkdir "$package/quillrt"
for folder in runtime train calibration compile benchmarks cli models; do
  ln -s "$root/$folder" "$package/quillrt/$folder"
done
PYTHONPATH="$package${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" -m quillrt.benchmarks.gpu_check "$@"
