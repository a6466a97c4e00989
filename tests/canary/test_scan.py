"""The scan must be able to fail: whatever way a secret gets into a log, it is found; and a scan of nothing is no success."""

import base64
import contextlib
import io
import re
import tempfile
import unittest
from pathlib import Path

import scan

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET = b"the canary-bird of a test"
CLAIMS = base64.urlsafe_b64encode(b'{"sub":"ann","exp":4000000000}').decode().rstrip("=")
HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
TOKEN = f"{HEADER}.{CLAIMS}.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
# What a clean run leaves: of each kind a log, with everything that the scan demands of it.
CLEAN = {f"{kind}-tests-1.log": "\n".join(["a line", *always, "a line"]) for kind, (_, always) in scan.KINDS.items()}
JUNIT = """<testsuites><testsuite>
    <testcase classname="crate::tests" name="good"><system-out>{passed}</system-out></testcase>
    <testcase classname="crate::tests" name="bad"><failure/><system-out>{failed}</system-out></testcase>
</testsuite></testsuites>"""


class Found(unittest.TestCase):
    def test_a_token_whole_or_in_part_wherever_it_stands(self):
        for text in [
            TOKEN,
            f"INFO refuse target=/ws?token={TOKEN}",
            f'{{"level":"TRACE","headers":"\\"sec-websocket-protocol\\": \\"tidings.token.{TOKEN}\\""}}',
            f"b\"Bearer {TOKEN}\"",
            TOKEN[:30],
            CLAIMS,
        ]:
            with self.subTest(text):
                self.assertEqual(len(list(scan.faults("a.log", text.encode()))) > 0, True)

    def test_a_secret_in_every_form(self):
        for form in [
            SECRET,
            b"?" + base64.b64encode(SECRET),
            SECRET.hex().encode(),
            SECRET.hex().upper().encode(),
            repr(list(SECRET)).encode(),
            "\n".join(f"    {byte}," for byte in SECRET).encode(),
        ]:
            with self.subTest(form):
                self.assertEqual(len(list(scan.faults("a.log", b"key=" + form))), 1)

    def test_a_secret_in_base64_wherever_it_begins(self):
        for before in range(7):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                encoded = encode(bytes([255] * before) + scan.CANARY.encode() + b"\xff\xff")
                self.assertEqual(len(list(scan.faults("a.log", encoded))), 1, (before, encoded))

    def test_the_sentence_names_file_line_and_what_was_seen(self):
        (sentence,) = scan.faults("hub-1.log", b"one\ntwo\nkey=canary-bird of\n")
        self.assertEqual(sentence, "hub-1.log, line 3, has a secret of the tests: canary-bird")

    def test_what_a_log_may_have_is_no_fault(self):
        for text in ["canary", "user=canary", "eyJ", "session=eyJab.k3f9a1qz", "token=…&x=1", "code=token_signature"]:
            self.assertEqual(list(scan.faults("a.log", text.encode())), [], text)


class Runs(unittest.TestCase):
    def run_over(self, logs, passed="", failed="", printed="step 1 of 1", kinds=tuple(scan.KINDS)):
        """The scan's exit code and what it says, for these logs, what tests and what a step printed."""
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "kept"
            kept.mkdir()
            for name, text in logs.items():
                (kept / name).write_text(text)
            (Path(folder) / "junit.xml").write_text(JUNIT.format(passed=passed, failed=failed))
            (Path(folder) / "step.log").write_text(printed)
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                code = scan.main(
                    [str(kept), "--kinds", *kinds, "--junit", f"{folder}/junit.xml", "--printed", f"{folder}/step.log"]
                )
        return code, said.getvalue()

    def test_a_clean_run_passes_and_says_what_was_looked_at(self):
        code, said = self.run_over(CLEAN)
        self.assertEqual(code, 0, said)
        self.assertEqual(said.splitlines()[-1], f"{len(scan.KINDS) + 1} passed, 0 failed, 0 skipped")
        self.assertIn("ok the metrics of servers: 4 lines of 1 files", said)

    def test_one_line_in_any_file_fails_it(self):
        for name in CLEAN:
            code, said = self.run_over(CLEAN | {name: f"{CLEAN[name]}\nDEBUG {TOKEN}"})
            self.assertEqual((code, said.count(f"    {name}, line ")), (1, 2), said)
            self.assertIn(" 1 failed, ", said.splitlines()[-1])

    def test_a_file_of_a_kind_nobody_knows_is_looked_at_too(self):
        self.assertEqual(self.run_over(CLEAN | {"other-1.log": TOKEN})[0], 1)

    def test_what_passed_tests_and_steps_printed_is_looked_at_and_what_failed_ones_did_is_not(self):
        self.assertEqual(self.run_over(CLEAN, passed=TOKEN)[0], 1)
        self.assertEqual(self.run_over(CLEAN, printed=TOKEN)[0], 1)
        self.assertEqual(self.run_over(CLEAN, failed=TOKEN)[0], 0)

    def test_a_kind_that_is_missing_empty_or_without_detail_fails(self):
        for name, text in CLEAN.items():
            others = {other: CLEAN[other] for other in CLEAN if other != name}
            for logs in [others, others | {name: "\n\n"}, others | {name: "a line"}]:
                self.assertEqual(self.run_over(logs)[0], 1, logs)
        self.assertEqual(self.run_over({})[0], 1)

    def test_a_kind_that_nobody_asked_for_may_be_missing(self):
        logs = {name: text for name, text in CLEAN.items() if not name.startswith("browser")}
        self.assertEqual(self.run_over(logs, kinds=("hub", "server", "metrics"))[0], 0)


class Tests(unittest.TestCase):
    def test_every_secret_that_a_test_has_is_one_that_would_be_found(self):
        """Or the scan would look for a secret that nobody has."""
        files = [*ROOT.glob("crates/*/tests/**/*.rs"), *ROOT.glob("examples/*/src/tests.rs")]
        secret = re.compile(r'(?:\bconst \w*SECRET\b[^=;]*=|\bhs(?:256|384|512)\(|\bsigned\()\s*b?"([^"]*)"')
        secrets = {(file.name, found) for file in files for found in secret.findall(file.read_text())}
        self.assertGreater(len(secrets), 8)
        for name, found in sorted(secrets):
            self.assertEqual(len(list(scan.faults(name, found.encode()))), 1, f"{name} has a secret without a canary: {found}")


if __name__ == "__main__":
    unittest.main()
