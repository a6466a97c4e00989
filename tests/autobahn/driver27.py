"""Runs inside the suite's own Python 2.7: describes the cases, or runs the fuzzing client.

    driver27.py describe                  case table as JSON on standard output
    driver27.py run SPEC.json [COUNT]     the fuzzing client; COUNT messages a case in sections 12 and 13

It owns what needs the suite's classes in memory. It never judges: what is a failure is run.py's to say, because the
suite's exit code means nothing.
"""
import json
import sys

from autobahntestsuite import case as suite
from autobahntestsuite import wstest


def case_id(klass):
    return klass.__name__[len("Case"):].replace("_", ".")


def describe():
    """Each case's id; for section 9 also the bytes of its largest message and of the frames that it comes in."""
    table = {}
    for klass in suite.Cases:
        sizes = {}
        if case_id(klass).startswith("9."):
            instance = klass(None)
            sizes["message_bytes"] = instance.DATALEN if hasattr(instance, "DATALEN") else instance.LEN
            sizes["frame_bytes"] = getattr(instance, "FRAGSIZE", sizes["message_bytes"])
        table[case_id(klass)] = sizes
    json.dump(table, sys.stdout)


def run(spec, count):
    if count is not None:
        for klass in suite.Cases:
            if case_id(klass).startswith(("12.", "13.")):
                klass.COUNT = count
    sys.argv = ["wstest", "-m", "fuzzingclient", "-s", spec]
    wstest.run()


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        describe()
    else:
        run(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
