"""The one cost model: time of a stage, time of a transfer, memory of a stage, price of a usage."""

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, StageTime, stage_time
from planner.core.cost.memory import StageMemory, kv_bytes_per_sequence, stage_memory
from planner.core.cost.money import Cost, Usage, price
from planner.core.cost.transfer import Transfer, hidden_payload_bytes, transfer_time
from planner.core.cost.traversal import Traversal, chip, traverse

__all__ = [
    "Batch",
    "Chip",
    "Cost",
    "StageMemory",
    "StageTime",
    "Transfer",
    "Traversal",
    "Usage",
    "chip",
    "hidden_payload_bytes",
    "kv_bytes_per_sequence",
    "price",
    "stage_memory",
    "stage_time",
    "transfer_time",
    "traverse",
]
