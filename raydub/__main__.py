"""``python -m raydub`` is the command ``raydub``."""

from __future__ import annotations

import serve.cli  # noqa: F401  # adds `raydub serve`
from cluster.cli.main import main

if __name__ == "__main__":
    main()
