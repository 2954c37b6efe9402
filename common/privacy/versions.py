"""Which version of a package did the accounting."""

from importlib.metadata import PackageNotFoundError, version


def package_version(package: str) -> str:
    """Return a package's name and version; without a version where it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
