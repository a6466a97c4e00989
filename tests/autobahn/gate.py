"""Judges a run of the Autobahn suite: pure, from the suite's index and what was selected to a list of faults.

It never starts anything and never reads a file, so that test_gate.py can show that it fails when it should.
"""

SECTIONS = {
    "core": ("1", "2", "3", "4", "5", "6", "7", "10"),
    "limits": ("9",),
    "deflate": ("12", "13"),
}

# How many cases each selection has in autobahntestsuite 25.10.1. Another number means another suite.
CASES_EXPECTED = {"core": 247, "limits": 54, "deflate": 216}

# These three report how a server behaves where RFC 6455 leaves it open; the suite never calls them OK.
INFORMATIONAL = frozenset({"7.1.6", "7.13.1", "7.13.2"})

CLOSED_TOO_LARGE = 1009
CLOSED_POLICY = 1008


def sort_key(case):
    return tuple(int(part) for part in case.split("."))


def select(table, selections):
    """The ids of the cases in `selections`, in the suite's order. ValueError where the suite has another number."""
    chosen = []
    for selection in selections:
        cases = [case for case in table if case.split(".")[0] in SECTIONS[selection]]
        if len(cases) != CASES_EXPECTED[selection]:
            raise ValueError(
                f"{selection}: the suite has {len(cases)} cases, {CASES_EXPECTED[selection]} were expected"
            )
        chosen += cases
    return sorted(chosen, key=sort_key)


def close_codes_expected(table, cases, message_bytes_max, fragments_max):
    """Case to close codes, for the cases whose message is above the production limits.

    A message in small frames meets the limit on fragments first, and with exactly as many bytes a frame as
    `message_bytes_max / fragments_max` it meets both with the same frame.
    """
    expected = {}
    for case in cases:
        sizes = table[case]
        if sizes.get("message_bytes", 0) <= message_bytes_max:
            continue
        frames_within_limit = message_bytes_max // sizes["frame_bytes"]
        if frames_within_limit > fragments_max:
            expected[case] = {CLOSED_POLICY}
        elif frames_within_limit == fragments_max:
            expected[case] = {CLOSED_POLICY, CLOSED_TOO_LARGE}
        else:
            expected[case] = {CLOSED_TOO_LARGE}
    return expected


def faults(index, cases, close_codes):
    """What is wrong, as (case, behavior, behaviorClose, why). Empty means that the gate is passed.

    `index` is the agent's part of the suite's index.json; `close_codes` comes from close_codes_expected, empty where
    every case has to succeed.
    """
    found = []
    for case in sorted(set(index) - set(cases), key=sort_key):
        found.append((case, "", "", "ran without being selected"))
    for case in cases:
        if case not in index:
            found.append((case, "", "", "was selected and did not run"))
            continue
        behavior, closing = index[case]["behavior"], index[case]["behaviorClose"]
        code = index[case]["remoteCloseCode"]
        if case in close_codes:
            if behavior == "OK":
                found.append((case, behavior, closing, "passed above the limit"))
            elif code not in close_codes[case]:
                wanted = " or ".join(str(code) for code in sorted(close_codes[case]))
                found.append((case, behavior, closing, f"closed with {code}, not with {wanted}"))
            continue
        accepted = {"OK", "INFORMATIONAL"} if case in INFORMATIONAL else {"OK"}
        if behavior not in accepted or closing not in accepted:
            found.append((case, behavior, closing, f"closed with {code}"))
    return found
