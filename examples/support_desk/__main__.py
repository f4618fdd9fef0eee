"""`python -m examples.support_desk`, from the project's root: the demo."""

from __future__ import annotations

import sys

from examples.support_desk.story import main

if __name__ == "__main__":
    sys.exit(main())
