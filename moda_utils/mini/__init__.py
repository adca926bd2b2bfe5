"""A small world that needs no network: drawn shop photos, and models trained on them from scratch.

Nothing here is imported by the full profile. `python -m moda_utils.mini --help` tells
how to retrain the models.
"""
