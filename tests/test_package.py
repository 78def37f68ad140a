"""What an installation brings along, and what the package's page says."""

import json
import runpy
import sys
import tomllib
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "tools/package_page.py"))


def test_an_editable_installation_puts_no_folder_on_the_path() -> None:
    try:
        installed = distribution("rematte")
        made = json.loads(installed.read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        pytest.skip("rematte runs from the checkout")
    if not made.get("dir_info", {}).get("editable") or made["url"] != ROOT.as_uri():
        pytest.skip("this checkout is not installed as editable")
    lines = [
        line
        for file in installed.files or []
        if file.suffix == ".pth"
        for line in file.read_text().splitlines()
    ]
    assert lines
    assert all(line.startswith("import ") for line in lines), lines


def test_folders_of_the_wheel_exist() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = settings["tool"]["scikit-build"]["wheel"]["force-include"]
    assert folders["rematte"] == "rematte"
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_a_release_has_absolute_links(page: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://host")
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/one")
    made = page["dynamic_metadata"]({}, {"version": "1.2"})
    text = made["readme"]["text"]
    assert "](https://host/some/one/raw/v1.2/docs/images/demo.webp)" in text
    assert "](https://host/some/one/blob/v1.2/docs/start.md)" in text
    left = text.replace("](https://", "")
    assert "](" not in left.replace("](#", ""), "a relative link is left"
    assert set(made["urls"]) == {"Repository", "Documentation", "Changelog", "Issues"}


def test_a_build_elsewhere_keeps_the_page(
    page: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    made = page["dynamic_metadata"]({}, {"version": "1.2"})
    assert made["readme"]["text"] == README
    assert made["urls"] == {}


def test_pyinstaller_finds_what_programs_need(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ((name, value),) = settings["project"]["entry-points"]["pyinstaller40"].items()
    (folder,) = EntryPoint(name, value, "pyinstaller40").load()()
    hooks: Any = SimpleNamespace(
        collect_data_files=lambda package: [package], collect_dynamic_libs=str
    )
    monkeypatch.setitem(sys.modules, "PyInstaller", hooks)
    monkeypatch.setitem(sys.modules, "PyInstaller.utils", hooks)
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", hooks)
    made = runpy.run_path(str(Path(folder, "hook-rematte.py")))
    assert made["datas"] == ["rematte", "openvino"]
    assert "rematte.matter.matter" in made["hiddenimports"]
    assert all(map(find_spec, made["hiddenimports"]))


def test_what_needs_torch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("rematte.rvm")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"rematte.rvm: .*pip install 'rematte.torch"):
        import_module("rematte.rvm.model")
