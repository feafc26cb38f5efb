"""The one cost model: time of a stage, time of a transfer, memory of a stage, price of a usage."""

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.ledger import Activity, CostLine, ledger
from planner.core.cost.memory import StageMemory, kv_bytes_per_sequence, stage_memory
from planner.core.cost.stagetime import StageTime
from planner.core.cost.transfer import Transfer, hidden_payload_bytes, transfer_time
from planner.core.cost.traversal import Traversal, chip, traverse

__all__ = [
    "Activity",
    "Batch",
    "Chip",
    "CostLine",
    "StageMemory",
    "StageTime",
    "Transfer",
    "Traversal",
    "chip",
    "hidden_payload_bytes",
    "kv_bytes_per_sequence",
    "ledger",
    "stage_memory",
    "stage_time",
    "transfer_time",
    "traverse",
]
