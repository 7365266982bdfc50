"""boustro: variational character-level language models for the Hugging Face ecosystem.

Importing the package registers its classes with the Auto classes of transformers.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .configuration_boustro import BoustroConfig
from .modeling_boustro import BoustroForCausalLM, BoustroModel, BoustroPreTrainedModel
from .tokenization_boustro import BoustroTokenizer

__version__ = "0.1.0"

AutoConfig.register("boustro", BoustroConfig, exist_ok=True)
AutoModel.register(BoustroConfig, BoustroModel, exist_ok=True)
AutoModelForCausalLM.register(BoustroConfig, BoustroForCausalLM, exist_ok=True)
BoustroConfig.register_for_auto_class("AutoConfig")
BoustroModel.register_for_auto_class("AutoModel")
BoustroForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = [
    "BoustroConfig",
    "BoustroForCausalLM",
    "BoustroModel",
    "BoustroPreTrainedModel",
    "BoustroTokenizer",
]
