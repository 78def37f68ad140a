"""What a program needs besides the modules that its imports name."""
# ruff: noqa: N999 - PyInstaller finds a hook by this name

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs

from rematte import _MODULES

hiddenimports = [
    *(f"rematte.{module}" for module in _MODULES.values()),
]
datas = collect_data_files("rematte") + collect_data_files("openvino")
binaries = collect_dynamic_libs("openvino")
