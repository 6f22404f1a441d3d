"""Explain a picture: classifiers by name, class names, and the command ``tsgb``."""
