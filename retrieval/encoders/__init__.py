"""Pretrained text encoders and how they run: torch, OpenVINO, CUDA, int8."""
