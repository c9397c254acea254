"""What to install where a package is missing that the base does without."""

_OURS = {"cache", "preprocess", "model", "train", "evaluate"}


def lack(exc: ModuleNotFoundError, extras: str) -> str:
    """The line that says so; a module of this project that is missing is no extra, and raised.

    Args:
        exc: the import that failed.
        extras: of setup.cfg, that bring what the command needs.
    """
    if (exc.name or "").partition(".")[0] in _OURS:
        raise exc
    return f"error: this needs {exc.name}: pip install '.[{extras}]'"
