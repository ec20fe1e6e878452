"""Ground truth: receipts of predictions, and what labels that come later say of them."""
