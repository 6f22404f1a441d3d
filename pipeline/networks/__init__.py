"""Networks: backbones, their features, frozen layers, device and precision."""
