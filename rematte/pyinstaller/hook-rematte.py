"""Collects what a program needs besides the modules that it imports."""
# ruff: noqa: N999 - PyInstaller finds a hook by this name

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs

import rematte

# The public names are imported when they are first used, from modules of these names.
hiddenimports = [f"rematte.{module}" for module in rematte._MODULES.values()]
datas = collect_data_files("rematte") + collect_data_files("openvino")
binaries = collect_dynamic_libs("openvino")
