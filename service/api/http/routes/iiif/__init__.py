"""IIIF: pictures piece by piece, and manifests that list them."""
