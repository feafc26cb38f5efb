"""What engines accept, taken from the engines themselves, for the tests of ``planner export``.

    python benchmarks/engine_grammars.py vllm             # where vllm is installed
    python benchmarks/engine_grammars.py petals WHEEL_DIR # unpacked wheel or checkout
    python benchmarks/engine_grammars.py llama.cpp DIR    # checkout, or the one in llama-cpp-python
    python benchmarks/engine_grammars.py skypilot         # where skypilot is installed
    python benchmarks/engine_grammars.py kubernetes       # where kubernetes-validate is installed

Each writes its file of tests/files/grammars; with ``--check`` nothing is written, and what differs
from the file is told with exit code 1. The interpreter needs the engine, and not planner.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "files" / "grammars"


def vllm(_: Path) -> dict[str, Any]:
    """Options of ``vllm serve``, from its own parser made for a CPU."""
    import vllm.platforms as platforms
    from vllm.platforms.cpu import CpuPlatform

    platforms._current_platform = CpuPlatform()
    from vllm.entrypoints.common.cli_args import make_arg_parser
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    options = {}
    for action in parser._actions:
        for flag in action.option_strings:
            if flag.startswith("--"):
                options[flag] = _option(
                    action.nargs, getattr(action.type, "__name__", ""), action.choices
                )
    options["--quantization"]["choices"] = sorted(QUANTIZATION_METHODS)
    version = metadata.version("vllm")
    return {"source": f"vllm {version}, make_arg_parser", "options": options}


def petals(folder: Path) -> dict[str, Any]:
    """Options of run_server and run_dht, from their calls of add_argument."""
    cli = next(folder.rglob("cli/run_server.py")).parent
    init = (cli.parent / "__init__.py").read_text()
    version = re.search(r'__version__ = "(.*?)"', init)
    return {
        "source": f"petals {version[1] if version else '?'}, petals/cli",
        "run_server": _declared((cli / "run_server.py").read_text()),
        "run_dht": _declared((cli / "run_dht.py").read_text()),
    }


def llama_cpp(folder: Path) -> dict[str, Any]:
    """Options of llama-server and rpc-server, from where their sources read them."""
    arg = next(folder.rglob("common/arg.cpp")).read_text()
    options = {}
    found = re.findall(r'\{\s*((?:"--?[\w-]+",?\s*)+)\},\s*("[^"]*"|\w+\(\))?,?\s*("[^"]*")?', arg)
    for flags, value, told in found:
        if "the argument has been removed" in told:
            continue
        for flag in re.findall(r'"(--[\w-]+)"', flags):
            kind = "int" if value == '"N"' else ""
            options[flag] = {"nargs": 1 if value else 0} | ({"type": kind} if kind else {})
    rpc = next(folder.rglob("tools/rpc/rpc-server.cpp")).read_text()
    served = {}
    for flag, body in re.findall(r'arg == "(--[\w-]+)"\) \{(.*?)\n        \}', rpc, re.DOTALL):
        served[flag] = {"nargs": int("argv[i]" in body)}
    return {
        "source": f"llama.cpp in {next(p for p in arg_parents(folder))}",
        "llama-server": options,
        "rpc-server": served,
    }


def arg_parents(folder: Path) -> list[str]:
    """Names that say which version a checkout is."""
    return [folder.name, *(child.name for child in folder.iterdir() if child.is_dir())][::-1]


def skypilot(_: Path) -> dict[str, Any]:
    """JSON schemas of a task and of its resources."""
    from sky.utils import schemas

    return {
        "source": f"skypilot {metadata.version('skypilot')}, sky.utils.schemas",
        "task": _plain(schemas.get_task_schema()),
        "resources": _plain(schemas.get_resources_schema()),
    }


def kubernetes(_: Path) -> dict[str, Any]:
    """Schemas of the objects that exports have, without descriptions and unused branches."""
    import kubernetes_validate

    version = kubernetes_validate.latest_version()
    root = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    folder = next(path for path in root.rglob(f"*{version}*strict*") if path.is_dir())
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    kinds = {"StatefulSet": "statefulset-apps-v1", "Service": "service-v1"}
    found = {}
    for kind, name in kinds.items():
        schema = json.loads((folder / f"{name}.json").read_text())
        found[kind] = _pruned(schema, definitions)
    return {"source": f"kubernetes-validate {version}, strict schemas, pruned", **found}


_KEPT = """
apiVersion kind metadata name labels spec clusterIP selector ports port targetPort serviceName
replicas matchLabels template nodeSelector terminationGracePeriodSeconds securityContext
runAsNonRoot runAsUser fsGroup containers image args containerPort readinessProbe livenessProbe
tcpSocket periodSeconds failureThreshold resources limits requests allowPrivilegeEscalation
capabilities drop volumeMounts mountPath readOnly volumes secret secretName defaultMode
volumeClaimTemplates accessModes env value command
"""
"""Properties that an export may use; the pruned schema refuses all others."""


def _pruned(schema: Any, definitions: dict[str, Any]) -> Any:
    """A stricter schema in one piece: only what is kept above, references resolved."""
    if isinstance(schema, list):
        return [_pruned(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _pruned(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    made = {}
    for key, value in schema.items():
        if key == "properties":
            kept = {name: one for name, one in value.items() if name in _KEPT.split()}
            made[key] = {name: _pruned(one, definitions) for name, one in kept.items()}
        elif key not in ("description", "$schema", "$id") and not key.startswith("x-"):
            made[key] = _pruned(value, definitions)
    return made


def _option(nargs: Any, kind: str, choices: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"nargs": 1 if nargs is None else nargs}
    if kind in ("int", "float"):
        made["type"] = kind
    if choices:
        made["choices"] = sorted(map(str, choices))
    return made


def _declared(text: str) -> dict[str, Any]:
    """Options by their add_argument calls, without running the module."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"):
            continue
        given = {word.arg: word.value for word in node.keywords}
        action = ast.literal_eval(given["action"]) if "action" in given else ""
        nargs = ast.literal_eval(given["nargs"]) if "nargs" in given else None
        kind = getattr(given.get("type"), "id", "")
        option = _option(0 if action.startswith("store_") else nargs, kind, None)
        for name in node.args:
            flag = ast.literal_eval(name)
            found[flag if flag.startswith("-") else f"<{flag}>"] = option
    return found


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


ENGINES = {
    "vllm": vllm,
    "petals": petals,
    "llama.cpp": llama_cpp,
    "skypilot": skypilot,
    "kubernetes": kubernetes,
}


def main() -> int:
    """Writes or compares the grammar of one engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    found = ENGINES[asked.engine](asked.folder)
    path = FOLDER / f"{asked.engine}.json"
    if not asked.check:
        text = json.dumps(found, indent=0, sort_keys=True, separators=(",", ":"))
        path.write_text(text + "\n")
        print(f"{path}: {found['source']}")
        return 0
    known = json.loads(path.read_text())
    differing = sorted(key for key in {**known, **found} if known.get(key) != found.get(key))
    print(f"{path.name}: differs in {', '.join(differing)}" if differing else f"{path.name}: equal")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
