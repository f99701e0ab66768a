"""Explanations on the server's side: what makes two of them the same, which are known, which are being computed."""
