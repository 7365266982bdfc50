"""Evaluation of boustro models: the bound over a split, latent health, and an `evaluate` metric."""
