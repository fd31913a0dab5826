#!/usr/bin/env bash
# Checks every backend on this machine against PyTorch, and measures it; made for machines with an NVIDIA GPU.
#   benchmarks/gpu_check.sh [--self-test] OUT_DIR
# Needs a checkout, python3 with numpy, Pillow, torch, safetensors, onnx, onnxscript and onnxruntime, and what shall be
# checked: tensorrt, tensorrt-rtx, openvino, with pycuda or cuda-python for the GPU. Without scikit-learn the images are
# synthetic. No network.
# Writes result.json, result.md and log.txt into OUT_DIR. Exit code 0: all that ran agrees; 1: something does not, or
# nothing ran.
# PYTHON=... chooses another Python. --self-test: short rows, for machines without a GPU too; fails also if ONNX Runtime,
# or TensorRT-RTX's builder where it is installed, did not do all its steps.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
mkdir "$package/quillrt"
for folder in runtime train calibration compile benchmarks cli; do
  ln -s "$root/$folder" "$package/quillrt/$folder"
done
PYTHONPATH="$package${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" -m quillrt.benchmarks.gpu_check "$@"
