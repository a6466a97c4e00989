"""What was measured, as a page and plots: medians of the rounds, with the least and the most."""

import json
import platform
import statistics
from pathlib import Path

TITLES = {
    "fanout8": "1 room × 1,000 subscribers × 128 B, 8 outstanding",
    "fanout1": "1 room × 1,000 subscribers × 128 B, 1 outstanding",
    "rooms100": "100 rooms × 10 subscribers × 128 B, 8 outstanding",
    "large": "1 room × 1,000 subscribers × 4 KiB, 8 outstanding",
    "low": "50 publishes a second to 1,000 subscribers, 128 B",
    "echo": "64 connections × 16 outstanding: acked publishes; of others, what they answer",
    "handshakes": "handshakes, 64 at once (Tidings: with an HS256 token)",
    "idle": "10,000 idle connections (Tidings: authenticated, in three rooms of 200, 20 and 5)",
}
CONFIGURATION = Path(__file__).resolve().parent / "tidings.toml"
FANOUT = ["fanout8", "fanout1", "rooms100", "large", "low"]


def median(runs: list, key: str) -> float:
    return statistics.median(run[key] for run in runs)


def spread(runs: list, key: str, digits: int = 2) -> str:
    values = [run[key] for run in runs]
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def per_second(runs: list) -> str:
    value = median(runs, "per_second")
    return f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value / 1e3:.0f}k"


def latency(runs: list, which: str) -> str:
    values = [run["latency_ms"][which] for run in runs if run.get("latency_ms")]
    return f"{statistics.median(values):.1f}" if values else "–"


def table(rows: list) -> str:
    head, *rest = rows
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rest]) + "\n"


def by_cpu(servers: dict) -> list:
    return sorted(servers, key=lambda name: median(servers[name], "cpu_us"))


def case_section(case: str, servers: dict) -> str:
    if case == "idle":
        rows = [["server", "bytes a connection", "before, MB", "with, MB", "30 s after all left, MB", "back within 10 % after"]]
        for name in sorted(servers, key=lambda name: servers[name][0]["memory"]["each"]):
            memory = [run["memory"] for run in servers[name]]
            back = [one["back_after_s"] for one in memory]
            middle = {key: statistics.median(one[key] for one in memory) for key in ("each", "before", "held", "after")}
            rows.append([name, f"{middle['each']:,.0f}", f"{middle['before'] / 1e6:.1f}", f"{middle['held'] / 1e6:.1f}",
                         f"{middle['after'] / 1e6:.1f}", "never" if None in back else f"{max(back):.0f} s"])
        return table(rows)
    rows = [["server", "a second", "server CPU, µs each", "p50 ms", "p99 ms", "every one exactly once"]]
    for name in by_cpu(servers):
        runs = servers[name]
        exact = [run["exact"] for run in runs if run.get("exact") is not None]
        rows.append([f"**{name}**" if name == "tidings" else name, per_second(runs), spread(runs, "cpu_us"),
                     latency(runs, "p50"), latency(runs, "p99"),
                     "–" if not exact else "yes" if all(exact) else f"{sum(exact)} of {len(exact)} rounds"])
    return table(rows)


def target_rows(runs: dict) -> list:
    rows = [["target", "figure", "met"]]

    def add(target: str, figure: str, met: bool | None) -> None:
        rows.append([target, figure, "not measured" if met is None else "yes" if met else "**no**"])

    for case in FANOUT:
        servers = runs.get(case, {})
        if "tidings" not in servers:
            continue
        own = median(servers["tidings"], "cpu_us")
        others = {name: median(mine, "cpu_us") for name, mine in servers.items() if name not in ("tidings", "limit")}
        if others:
            best = min(others, key=others.get)
            add(f"{TITLES[case]}: CPU a delivery below every peer's", f"{own / others[best]:.2f} × {best}'s", own <= others[best])
        if "limit" in servers:
            ratio = own / median(servers["limit"], "cpu_us")
            add(f"{TITLES[case]}: ≤ 1.4 × the limit, then ≤ 1.25 ×", f"{ratio:.2f} ×", ratio <= 1.4)
        if case == "fanout1" and "uwebsockets" in servers:
            ratio = own / median(servers["uwebsockets"], "cpu_us")
            add("low load, one outstanding: CPU ≤ 1.1 × uWebSockets'", f"{ratio:.2f} ×", ratio <= 1.1)
            p99, theirs = (statistics.median(run["latency_ms"]["p99"] for run in servers[name]) for name in ("tidings", "uwebsockets"))
            add("low load, one outstanding: p99 ≤ uWebSockets'", f"{p99:.1f} ms, {theirs:.1f} ms", p99 <= theirs)
    one, two = (runs.get(case, {}).get("tidings") for case in ("one-shard", "two-shards"))
    if one and two:
        ratio = median(two, "cpu_us") / median(one, "cpu_us")
        add("two shards against one: CPU a delivery ≤ 1.1 ×", f"{ratio:.2f} ×", ratio <= 1.1)
        apart = statistics.median(max(run["threads_busy"]) / min(run["threads_busy"]) - 1 for run in two)
        add("their busy times within 10 %", f"{100 * apart:.0f} % apart", apart <= 0.1)
    if echo := runs.get("echo", {}).get("tidings"):
        value = median(echo, "per_second") / median(echo, "cpu_busy")
        add("acked publishes ≥ 400,000 a second a core", f"{value / 1e3:.0f}k", value >= 400e3)
        for other, factor in (("socketio", 5), ("centrifuge", 5)):
            if other in runs["echo"]:
                ratio = median(echo, "per_second") / median(runs["echo"][other], "per_second")
                add(f"acked publishes ≥ {factor} × {other}'s answers", f"{ratio:.1f} ×", ratio >= factor)
        if "uwebsockets" in runs["echo"]:
            ratio = median(echo, "cpu_us") / median(runs["echo"]["uwebsockets"], "cpu_us")
            add("then ≤ 2 × uWebSockets' bare echo", f"{ratio:.1f} ×", ratio <= 2)
    if idle := runs.get("idle", {}).get("tidings"):
        each = statistics.median(run["memory"]["each"] for run in idle)
        add("idle connection in 3 rooms ≤ 2,048 B, then ≤ 1,024", f"{each:,.0f} B", each <= 2048)
        back = [run["memory"]["back_after_s"] for run in idle]
        add("back to base + 10 % within 30 s of a mass disconnect of 10,000",
            "never" if None in back else f"after {max(back):.0f} s", None not in back)
    for case, what in (("handshakes", "HS256"), ("handshakes-es256", "ES256")):
        if shakes := runs.get(case, {}).get("tidings"):
            value = median(shakes, "per_second") / median(shakes, "cpu_busy")
            add(f"handshakes with {what} ≥ 20,000 a second a core", f"{value / 1e3:.1f}k",
                value >= 20e3 if what == "HS256" else None)
    slow, quick = (runs.get(case, {}).get("tidings") for case in ("slow", "not-slow"))
    if slow and quick:
        p99 = [statistics.median(run["latency_ms"]["p99"] for run in mine) for mine in (slow, quick)]
        connected = min(run["stopped_connected"] for run in slow)
        add(f"5 % of readers stopped ({connected} of 50 connected to the end): p99 of the others ≤ 1.2 ×",
            f"{p99[0] / p99[1]:.2f} × ({p99[0]:.1f} ms, {p99[1]:.1f} ms)", p99[0] <= 1.2 * p99[1] and connected > 0)
    if many := runs.get("many", {}).get("tidings"):
        each, connections = median(many, "each"), min(run["connections"] for run in many)
        alone = statistics.median(run["memory"]["each"] for run in idle) if idle else each
        add("100,000 connections' worth, several processes: cost of each as with 10,000 (within 10 %)",
            f"{connections:,} at once: {each:,.0f} B each, {each / alone:.2f} ×", connections >= 100_000 and each <= 1.1 * alone)
    if storm := runs.get("storm", {}).get("tidings"):
        worst = max(run["latency_ms"]["max"] for run in storm)
        add("5,000 reconnect at once", f"all back within {worst / 1e3:.2f} s", worst < 60e3)
    for with_redis, without in (("redis8", "fanout8"), ("redis1", "fanout1")):
        own, through = (runs.get(case, {}).get("tidings") for case in (without, with_redis))
        if own and through:
            # Round by round, since the machine drifts from one to the next.
            ratio = statistics.median(one["cpu_us"] / other["cpu_us"] for one, other in zip(through, own))
            add(f"{TITLES[without]}: through Redis at most 10 % dearer", f"{ratio:.2f} ×", ratio <= 1.1)
    if echo:
        add("publish with history through Redis ≥ 80 % of the bare script's", "`./test --long redis-speed` tells", None)
    return rows


def plot(case: str, servers: dict) -> str:
    """Bars of the CPU of a delivery; the longest ones are cut, so that the short ones can be told apart."""
    names = by_cpu(servers)
    values = {name: median(servers[name], "cpu_us") for name in names}
    shown_max = min(max(values.values()), 6 * values[names[0]])
    bar, gap, left, width = 18, 8, 130, 420
    height = 40 + len(names) * (bar + gap)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {height}" role="img" '
           f'font-family="system-ui, sans-serif" font-size="13">',
           f"<title>{TITLES[case]}: server CPU a delivery in µs</title>",
           "<style>text{fill:#333}.bar{fill:#9aa5b1}.own{fill:#d9480f}.limit{fill:#ced4da}"
           "@media(prefers-color-scheme:dark){text{fill:#ddd}.limit{fill:#495057}}</style>",
           f'<text x="0" y="16" font-weight="600">{TITLES[case]}: µs of server CPU each</text>']
    for index, name in enumerate(names):
        y = 32 + index * (bar + gap)
        length = width * min(values[name], shown_max) / shown_max
        kind = {"tidings": "own", "limit": "limit"}.get(name, "bar")
        cut = " ⋯" if values[name] > shown_max else ""
        out.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>'
                   f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="{bar}" rx="2"/>'
                   f'<text x="{left + length + 6:.1f}" y="{y + 14}">{values[name]:.2f}{cut}</text>')
    return "\n".join([*out, "</svg>\n"])


def write(measured: dict, folder: Path) -> None:
    """RESULTS.md and plots/ below `folder`."""
    runs = measured["runs"]
    (folder / "plots").mkdir(exist_ok=True)
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "unknown")
    parts = [f"""# Results

Written by `bench/run`; change that and not this. {measured['rounds']} round{'s' * (measured['rounds'] > 1)}, interleaved; medians, with the least and
the most. Linux {platform.release()}, {cpu}. Each server has one core to itself, the generator the other.

The unit that drifts least from machine to machine and from hour to hour is the server's CPU for each delivery: all of its
threads, from `/proc`. Absolute times on a shared machine drift by two; differences under 20 % mean little. `limit` is no
server: it writes what was encoded before, gathered by turn, and knows no tokens, log, queue or limit. Peers are raw where
they are raw: no history, no ids, no acks. Tidings runs with all of it on: tokens, rooms with history, idempotency ids,
acks, presence, limits and metrics; what it is configured with is below. What was tried is in [TRIED.md](TRIED.md).

## Targets

{table(target_rows(runs))}"""]
    for case, title in TITLES.items():
        if case not in runs:
            continue
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        if case in FANOUT:
            (folder / "plots" / f"{case}.svg").write_text(plot(case, runs[case]))
            parts.append(f"![CPU of a delivery](plots/{case}.svg)\n")
        parts.append(case_section(case, runs[case]))
    parts.append("## What was not measured\n")
    absent = [f"- {name}: {why}" for name, why in measured["absent"].items()]
    absent += [f"- a failed round: {failure}" for failure in measured["failures"]]
    absent += ["- uWebSockets at low load: its loop in Python spins, so that its CPU there is not its own.",
               "- uWebSockets runs through the Python package that carries it: Python runs once a publish or request, "
               "which its echo pays for each time; its fan-out is C++ alone.",
               "- Idempotency ids are remembered for five minutes as in production; a run is shorter than that."]
    parts.append("\n".join(absent) + "\n")
    parts.append("## The configuration\n\n```toml\n" + CONFIGURATION.read_text() + "```\n")
    (folder / "RESULTS.md").write_text("\n".join(parts))


def tell_ranks(work: Path) -> None:
    """Whether the run before had the servers in the same order, where they are more than 20 % apart."""
    before = work / "results-before.json"
    if not before.exists():
        return
    old, new = (json.loads(path.read_text())["runs"] for path in (before, work / "results.json"))
    for case in FANOUT:
        if case not in old or case not in new:
            continue
        shared = [name for name in new[case] if name in old[case]]
        then, now = ({name: median(of[case][name], "cpu_us") for name in shared} for of in (old, new))
        swapped = [f"{one} and {other}" for one in shared for other in shared
                   if then[one] * 1.2 < then[other] and now[other] * 1.2 < now[one]]
        print(f"{case:9} ranks as the run before" if not swapped else f"{case:9} swapped: {', '.join(swapped)}")
