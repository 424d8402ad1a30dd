"""`python -m pipeline` is `mailriver`, for a checkout that is not installed."""

from __future__ import annotations

from pipeline.cli import main

if __name__ == "__main__":
    main()
