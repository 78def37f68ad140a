"""The engines that run the network: torch, OpenVINO or a CUDA graph."""
