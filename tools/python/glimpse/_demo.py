"""The demo model: nine million parameters, for first steps and tests; it knows small drawn pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict

from ._errors import NotFoundError
from ._model import Model

_FILES = {"model": "demo-Q8_0.gguf", "mmproj": "mmproj-demo-f16.gguf", "image": "sample.png"}


def demo_files() -> Dict[str, str]:
    """Paths of the demo model: "model", "mmproj", and "image", a picture to ask about.

    They lie in the package, or in models/ of the source tree that it is used from; GLIMPSE_DEMO names another folder.
    Raises NotFoundError.
    """
    package = Path(__file__).parent
    folders = [Path(os.environ["GLIMPSE_DEMO"])] if os.environ.get("GLIMPSE_DEMO") else [package / "demo"]
    if len(package.parents) > 2:
        folders.append(package.parents[2] / "models")
    for folder in folders:
        if all((folder / name).is_file() for name in _FILES.values()):
            return {key: str(folder / name) for key, name in _FILES.items()}
    raise NotFoundError(f"the demo model is not here: looked in {', '.join(map(str, folders))}")


def demo(**options: Any) -> Model:
    """The demo model, loaded; options are Model's."""
    files = demo_files()
    return Model(files["model"], files["mmproj"], **options)
