"""LoRA: a network's layers stay as they are and learn a change of low rank each (Hu et al., arXiv 2106.09685).

It is peft's. What is trained so takes a fraction of the optimiser's memory, for a larger teacher on a small GPU; before
a model is saved the changes become part of its weights, so that it opens and runs as any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file
from torch import nn

from retrieval.errors import BadConfig
from retrieval.extras import require

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCALE = 2  # of a change, for each 1 of its rank: peft's `lora_alpha` over `r`, as its documentation has it


def add_lora(network: PreTrainedModel, layers: nn.ModuleList, rank: int) -> None:
    """Make the linear maps of some layers learn changes of a rank; their biases, what normalises them and all
    embeddings stay as they are. What is outside of both learns on, as a new head has to.

    Raises MissingDependency without peft, BadConfig where no layer is to learn.
    """
    require("peft", "LoRA")
    from peft import LoraConfig, inject_adapter_in_model

    inside = {id(module) for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)}
    learning = {id(one) for one in layers.parameters() if one.requires_grad}
    names = [
        name
        for name, module in network.named_modules()
        if id(module) in inside and id(module.get_parameter("weight")) in learning
    ]
    if not names:
        raise BadConfig("LoRA changes layers, and all of them are frozen; freeze fewer, or leave lora out")
    head = [one for name, one in network.named_parameters() if "embeddings" not in name and one.requires_grad]
    of_layers = {id(one) for one in layers.parameters()}
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=names), network)
    for one in head:
        one.requires_grad_(id(one) not in of_layers)
    # checkpoints are to carry the names that the network has while it learns
    network._weight_conversions = []  # type: ignore[assignment]


def load_lora(network: nn.Module, checkpoint: Path) -> bool:
    """Take a checkpoint's weights, if LoRA is in the network: it is saved as it is trained. Whether that is so."""
    if not hasattr(network, "peft_config"):
        return False
    network.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return True


def merge_lora(network: nn.Module) -> None:
    """Add every change to its weights, and leave the network as it was made."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            network.set_submodule(name, module.get_base_layer())
    del network.peft_config
