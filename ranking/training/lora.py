"""LoRA (Hu et al., arXiv 2106.09685) by peft: a network's weights stay, and adapters of low rank are trained.

That takes a fraction of the optimiser's memory, for larger teachers on a small GPU. Before a model is saved, adapters
are merged into its weights, so that it opens and runs as any other.
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

ALPHA_PER_RANK = 2  # peft's lora_alpha over r, as its documentation recommends


def add_lora(network: PreTrainedModel, layers: nn.ModuleList, rank: int) -> None:
    """Add adapters of a rank to the linear maps of `layers` that learn, and freeze everything else in the layers.

    Embeddings are frozen too; parameters outside of both, such as a new head, keep learning. Raises MissingDependency
    without peft, BadConfig where all layers are frozen.
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
        raise BadConfig("lora adapts layers that learn, and all layers are frozen; lower freeze_layers, or unset lora")
    head = [one for name, one in network.named_parameters() if "embeddings" not in name and one.requires_grad]
    of_layers = {id(one) for one in layers.parameters()}
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=ALPHA_PER_RANK * rank, target_modules=names), network)
    for one in head:
        one.requires_grad_(id(one) not in of_layers)
    # checkpoints keep the parameter names of the network with adapters
    network._weight_conversions = []  # type: ignore[assignment]


def load_lora(network: nn.Module, checkpoint: Path) -> bool:
    """Load a checkpoint into a network with adapters; returns False, and loads nothing, where it has none."""
    if not hasattr(network, "peft_config"):
        return False
    network.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return True


def merge_lora(network: nn.Module) -> None:
    """Merge all adapters into the weights, and remove them from the network."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            network.set_submodule(name, module.get_base_layer())
    del network.peft_config
