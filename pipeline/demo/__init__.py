"""The demo: one campaign and some receipts through the whole of mailriver, and a comparison with the witness."""
