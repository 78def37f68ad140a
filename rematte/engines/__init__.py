"""What runs the network: torch, OpenVINO or a CUDA graph."""
