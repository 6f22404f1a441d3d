"""Networks: backbones, their features and weights, where and in which precision they run."""
