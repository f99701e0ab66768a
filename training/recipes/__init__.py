"""Recipes: one readable module a model, from data to network to fit to figures to bundle."""
