"""Saliency maps to label images: arrays in, arrays out."""
