"""Weakly-supervised segmentation: from image labels to a network and its mIoU."""
