"""The figures as tables for people."""

from typing import Any

_NAMES = {"http": "HTTP", "grpc": "gRPC", "sse": "server-sent events"}


def accepting_table(result: dict[str, Any]) -> str:
    """Accepted jobs a second, one row for each front end and number of clients."""
    lines = [
        "| asked through | clients | jobs/s | bare RQ, jobs/s | ratio (spread) "
        "| API, CPU ms a job | generator, cores | GET p50, p99 (ms) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in result["cells"]:
        low, high = cell["ratio_spread"]
        lines.append(
            f"| {_NAMES[cell['kind']]} | {cell['clients']} | {cell['per_second']:.0f} "
            f"| {cell['rq_per_second']:.0f} | {cell['ratio']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {cell['api_ms']:.2f} | {cell['cores']:.2f} "
            f"| {cell['get_p50_ms']:.0f}, {cell['get_p99_ms']:.0f} |"
        )
    return "\n".join(lines)


def watching_table(result: dict[str, Any]) -> str:
    """What watchers saw and cost, one row for each kind."""
    lines = [
        "| watchers | events each | wrong | write to any watcher, p50, p99 (ms) "
        "| write to the last, p50, p99 (ms) | API memory a watcher | generator, cores |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in ("sse", "grpc"):
        row = result[kind]
        lines.append(
            f"| {result['watchers_of_each_kind']} of {_NAMES[kind]} "
            f"| {result['events_of_each_generation']} | {row['wrong']} "
            f"| {row['p50_ms']:.0f}, {row['p99_ms']:.0f} "
            f"| {row['last_p50_ms']:.0f}, {row['last_p99_ms']:.0f} "
            f"| {row['memory_kib']:.0f} KiB | {row['generator_cores']:.2f} |"
        )
    connections = ", ".join(str(count) for count in result["redis_connections"])
    memory = ", ".join(f"{mib:.0f}" for mib in result["api_memory_mib"])
    lines += [
        "",
        f"{result['generations']} generations, {result['written_per_second']:.0f} events written "
        f"a second, {result['delivered_per_second']:.0f} delivered; the API took "
        f"{result['api_cores']:.2f} cores, {result['api_ms_per_delivery']:.2f} ms a delivery. "
        "Before, with the one kind and with both, Redis had "
        f"{connections} connections and the API {memory} MiB.",
    ]
    return "\n".join(lines)


def report(result: dict[str, Any]) -> str:
    """The whole document."""
    parts = ["# Load", f"{result['machine']}; `python -m benchmarks.load --write`."]
    for fsync, accepted in result["accepting"].items():
        load = f"Load average {accepted['load_average']}; {accepted['repeats']} rounds of "
        load += f"{accepted['seconds']:g} s each, medians."
        parts += [f"## Accepted jobs, appendfsync {fsync}", load, accepting_table(accepted)]
    for watched in result["watching"]:
        pace = "as fast as Redis takes them" if not watched["asked_per_second"] else "paced"
        load = f"Load average {watched['load_average']}."
        parts += [f"## Watchers, events {pace}", load, watching_table(watched)]
    return "\n\n".join(parts) + "\n"
