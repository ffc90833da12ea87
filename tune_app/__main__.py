"""``python -m tune_app`` and the console script ``headroom``."""

from tune_app.cli import main

if __name__ == "__main__":
    main()
