"""Which number format the matrix work of training runs in: bf16 only where the hardware has it."""

import torch
from torch import nn

from boustro.training.errors import TrainingError


def resolve_precision(requested: str, device: torch.device) -> str:
    """Turns `--mixed-precision` into what Accelerate is given: `"no"` (float32), `"bf16"` or `"fp16"`.

    `"auto"` is bf16 where the device computes in it, else float32. Raises `TrainingError` if a format is asked for
    that the device does not have.
    """
    if requested == "auto":
        return "bf16" if has_bf16(device) else "no"
    if requested == "bf16" and not has_bf16(device):
        raise TrainingError(
            f"--mixed-precision bf16: this device ({device.type}) does not compute in bf16 (NVIDIA GPUs from "
            "Ampere on do, and CPUs with AMX or AVX512-BF16); use --mixed-precision auto, which falls back to float32."
        )
    if requested == "fp16" and device.type != "cuda":
        raise TrainingError(
            f"--mixed-precision fp16 needs a CUDA GPU, found {device.type}; use --mixed-precision auto."
        )
    return requested


def has_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies in bf16 itself and its LSTM kernels take part."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        has_instructions = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        return has_instructions and lstm_runs_in_bf16()
    return False


def lstm_runs_in_bf16() -> bool:
    """Whether `nn.LSTM` trains under bf16 autocast on the CPU; without hardware support oneDNN raises."""
    lstm = nn.LSTM(8, 8, batch_first=True)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = lstm(torch.zeros(2, 3, 8))
        output.float().sum().backward()
    except RuntimeError:
        return False
    return True
