"""Checks of options that the evaluations and the commands have, before anything is loaded."""

import argparse

import torch

from boustro.data_scripts.errors import DataError


def check_device_and_seed(options: argparse.Namespace) -> None:
    """Raises `DataError` for a --device that torch cannot use here, and for a --seed that cannot be."""
    try:
        torch.zeros(1, device=options.device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"--device {options.device}: torch cannot use it here ({reason}); leave the option out."
        ) from error
    if not 0 <= options.seed < 2**63:
        raise DataError(f"--seed is {options.seed}, expected a whole number from 0 to 2**63 - 1.")
