"""Flags that commands share, most of them made from the fields of `Options`."""

import argparse
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from rematte.cli.parser import Parser, one_of, reporting
from rematte.conversion.presets import PRESETS
from rematte.options import OPTIONS, Options
from rematte.weights.registry import VARIANTS, for_quality

# Defaults on the command line.
DEFAULTS = {each.name: each.default for each in fields(Options)} | {
    name: option.command_default
    for name, option in OPTIONS.items()
    if option.command_default is not None
}

# Options whose choices are in a module that is slow to import.
_CHECKS = {"hwaccel": one_of("rematte.video.read_options", "HWACCELS")}

# Options that name one file, which several inputs would write.
_SINGLE = {"cuts"}


def add_options(parser: Parser, *, single: bool = True) -> None:
    """Add a flag for each option of a conversion, and those of the weights.

    `single` says whether there is one input; else flags that name a file are left out.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in OPTIONS.items():
        if option.flag and (single or name not in _SINGLE):
            if option.group not in groups:
                groups[option.group] = parser.add_argument_group(option.group)
            add_option(groups[option.group], name)
    add_weights(groups["network"])


def add_option(target: argparse._ActionsContainer, name: str) -> None:
    """Add the flag of one field of `Options`; the parsed value has the field's name."""
    option = OPTIONS[name]
    default, text = DEFAULTS[name], option.help.replace("%", "%%")
    flags = filter(None, (option.short, option.flag))
    if option.switch is not None:
        target.add_argument(
            *flags, dest=name, default=default, action="store_const",
            const=option.switch, help=text,
        )  # fmt: skip
        return
    if default is not None:
        text += " (default: %(default)s)"
    target.add_argument(
        *flags, dest=name, default=default, action="append" if option.many else "store",
        type=_CHECKS.get(name, reporting(option.parse)),
        choices=option.choices or None, metavar=option.metavar or None, help=text,
    )  # fmt: skip


def add_weights(target: argparse._ActionsContainer, variant: bool = True) -> None:
    """Add --weights, and --variant unless the command only takes what they hold."""
    target.add_argument(
        "--weights", metavar="NAME|PATH",
        help="a name of `rematte weights list` or a file (default: the bundled ones)",
    )  # fmt: skip
    if variant:
        target.add_argument(
            "--variant", choices=VARIANTS,
            help="network to insist on (default: what the weights hold)",
        )  # fmt: skip


def add_quiet(target: argparse._ActionsContainer) -> None:
    """Add --quiet."""
    target.add_argument("-q", "--quiet", action="store_true", help="errors only")


def add_messages(parser: Parser, json: str) -> None:
    """Add --quiet, and --json with its help."""
    group = parser.add_argument_group("messages")
    add_quiet(group)
    group.add_argument("--json", action="store_true", help=json)


def settings(words: Namespace, device: str) -> dict[str, Any]:
    """Return the options of a conversion from parsed flags, by name."""
    given = {name: getattr(words, name) for name in OPTIONS if hasattr(words, name)}
    preset = PRESETS.get(given.get("preset") or "")
    for name in preset.options if preset else ():
        if DEFAULTS[name] is not None and given.get(name) == DEFAULTS[name]:
            del given[name]  # it was not given, so that the preset's own holds
    return {**given, "device": device}


def choose_weights(words: Namespace) -> None:
    """Replace --weights and --quality by what `for_quality` chooses."""
    if getattr(words, "variant", None) is None:
        words.weights, words.quality = for_quality(
            words.weights, words.quality, words.downsample_ratio
        )


def model_loader(words: Namespace, device: str) -> Callable[[], Any]:
    """Make a picklable function that loads the network named by the flags."""
    from rematte.engines.choose import load_for

    variant = getattr(words, "variant", None)
    return partial(load_for, words.engine, words.weights, variant, device, words.dtype)
