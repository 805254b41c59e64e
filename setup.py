"""Build hook: the wheel carries the files that commands need, so that `bionas run` works without a checkout.

Everything else about the package is in pyproject.toml.
"""

import json
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = ("paper", "genotypes", "geography", "results")


class BuildWithFiles(build_py):
    """Copies data/ and the notebooks, without their outputs, to `bionas/packaged/`."""

    def run(self):
        super().run()
        if self.editable_mode:  # an editable installation reads the checkout
            return
        packaged = Path(self.build_lib) / "bionas" / "packaged"
        shutil.rmtree(packaged, ignore_errors=True)
        for name in DATA:
            shutil.copytree(Path("data") / name, packaged / "data" / name)
        (packaged / "notebooks").mkdir(parents=True)
        for path in Path("notebooks").glob("[0-9]*.ipynb"):
            notebook = json.loads(path.read_text(encoding="utf-8"))
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    cell["outputs"], cell["execution_count"] = [], None
            (packaged / "notebooks" / path.name).write_text(json.dumps(notebook, indent=1), encoding="utf-8")


setup(cmdclass={"build_py": BuildWithFiles})
