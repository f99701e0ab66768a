"""Explanations to pictures, pages and terminal text: one renderer a modality, pure functions of arrays. Computing never imports these."""
