"""From a checkpoint to a bundle: the only code that imports both torch and onnx."""
