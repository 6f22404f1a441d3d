"""Using a trained segmenter: new photos in, label images out."""
