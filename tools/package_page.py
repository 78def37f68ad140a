"""Provides the text and links of the package's page to scikit-build-core.

README.md links to files of the repository, which are missing on a package index. GitHub
runners have the repository's address in `GITHUB_REPOSITORY`; packages that are built
elsewhere keep README.md unchanged.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)\s]+\))")


def dynamic_metadata(
    settings: Mapping[str, Any], project: Mapping[str, Any]
) -> dict[str, Any]:
    """Give the fields `readme` and `urls` of the project's metadata."""
    text = Path("README.md").read_text(encoding="utf-8")
    repository, urls = address(), {}
    if repository:
        tag = f"v{project['version']}"
        text = absolute(text, repository, tag)
        urls = {
            "Repository": repository,
            "Documentation": f"{repository}/tree/{tag}/docs",
            "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
            "Issues": f"{repository}/issues",
        }
    return {"readme": {"content-type": "text/markdown", "text": text}, "urls": urls}


def address() -> str:
    """The address of the repository that this release is built from, or ""."""
    name = os.environ.get("GITHUB_REPOSITORY", "")
    return name and f"{os.environ.get('GITHUB_SERVER_URL', '')}/{name}"


def absolute(text: str, repository: str, tag: str) -> str:
    """Make a page's links, which start at the repository's root, absolute."""
    return _LINK.sub(
        lambda link: (
            f"{link[1]}{link[2]}{repository}/{'raw' if link[1] else 'blob'}/{tag}/"
            f"{link[3]}"
        ),
        text,
    )
