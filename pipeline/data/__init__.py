"""Images, image labels and masks as catalogues and torch data sets. No networks."""

import os

# Or albumentations asks a package index for a newer version of itself when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
