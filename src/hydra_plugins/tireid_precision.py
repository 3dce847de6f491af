"""A value for configs, `${fast_precision:ACCELERATOR}`: how the machine at hand trains fastest.

Hydra imports the modules below `hydra_plugins` before it composes.
"""

from omegaconf import OmegaConf


def fast_precision(accelerator: str) -> str:
    """Return `bf16-mixed` where the hardware multiplies bfloat16, else `32-true`.

    Args:
        accelerator: Of `lightning.Trainer`: `auto`, `cpu`, `gpu`, ...
    """
    import torch  # late: most commands of Hydra need no value of it

    if accelerator != "cpu" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu = getattr(torch.cpu, "get_capabilities", dict)()  # not before torch 2.11
        fast = accelerator in ("auto", "cpu") and (cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
    return "bf16-mixed" if fast else "32-true"


OmegaConf.register_new_resolver("fast_precision", fast_precision, replace=True)
