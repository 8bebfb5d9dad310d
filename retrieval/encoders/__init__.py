"""Text encoders and the runtimes they run on: OpenVINO, torch, CUDA, int8."""
