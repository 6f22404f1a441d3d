"""Label images as files of labelling tools, and back."""
