"""From a checkpoint or an ONNX classifier to a bundle of engines."""
