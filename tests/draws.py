"""Properties that draw the same in every run: without chance, and without what happens to be loaded.

Without chance alone they do not: among what it draws, Hypothesis puts constants that it reads in those modules of ours
that are loaded by then, and which ones those are depends on the tests that this process ran before.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants, constants_from_module

import citywatch


@cache
def constants_of_the_package() -> Constants:
    """Those of every module, whether or not it was used."""
    found = Constants()
    for module in pkgutil.walk_packages(citywatch.__path__, "citywatch."):
        if not module.name.endswith(".__main__"):
            found |= constants_from_module(importlib.import_module(module.name))
    return found


def keep_still() -> None:
    assert callable(providers._get_local_constants), "Hypothesis has moved it: see `constants_of_the_package`"
    providers._get_local_constants = constants_of_the_package
