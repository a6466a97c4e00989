"""The gate must be able to fail: every way in which a run can be bad, and the two in which it is good."""

import unittest

import gate


def passed(code=1000):
    return {"behavior": "OK", "behaviorClose": "OK", "remoteCloseCode": code}


def refused(code):
    return {"behavior": "FAILED", "behaviorClose": "FAILED", "remoteCloseCode": code}


class Faults(unittest.TestCase):
    def test_a_clean_run_has_none(self):
        self.assertEqual(gate.faults({"1.1.1": passed(), "9.1.1": passed()}, ["1.1.1", "9.1.1"], {}), [])

    def test_an_empty_index_is_a_fault_for_every_case(self):
        self.assertEqual(len(gate.faults({}, ["1.1.1", "1.1.2"], {})), 2)

    def test_a_case_nobody_selected(self):
        self.assertEqual(gate.faults({"2.1": passed()}, [], {})[0][0], "2.1")

    def test_both_columns_count(self):
        for behavior in ("NON-STRICT", "FAILED", "UNIMPLEMENTED", "INFORMATIONAL"):
            for column in ("behavior", "behaviorClose"):
                with self.subTest(behavior=behavior, column=column):
                    self.assertEqual(
                        len(gate.faults({"6.4.1": passed() | {column: behavior}}, ["6.4.1"], {})), 1
                    )

    def test_informational_is_for_three_cases_alone(self):
        told = {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL", "remoteCloseCode": None}
        for case in ("7.1.6", "7.13.1", "7.13.2"):
            self.assertEqual(gate.faults({case: told}, [case], {}), [])
        self.assertEqual(len(gate.faults({"7.1.5": told}, ["7.1.5"], {})), 1)
        self.assertEqual(len(gate.faults({"7.1.6": told | {"behavior": "FAILED"}}, ["7.1.6"], {})), 1)


class ProductionLimits(unittest.TestCase):
    def codes(self, message_bytes, frame_bytes):
        table = {"9.1.1": {"message_bytes": message_bytes, "frame_bytes": frame_bytes}}
        return gate.close_codes_expected(table, ["9.1.1"], 65536, 64).get("9.1.1")

    def test_which_limit_a_message_meets_first(self):
        self.assertIsNone(self.codes(65536, 65536))
        self.assertEqual(self.codes(65537, 65537), {1009})
        self.assertEqual(self.codes(4 << 20, 4096), {1009})
        self.assertEqual(self.codes(4 << 20, 1024), {1008, 1009})
        self.assertEqual(self.codes(4 << 20, 64), {1008})

    def test_passing_above_the_limit_is_a_fault(self):
        self.assertEqual(len(gate.faults({"9.1.2": passed()}, ["9.1.2"], {"9.1.2": {1009}})), 1)

    def test_another_close_code_is_a_fault(self):
        for code in (None, 1000, 1002, 1008):
            self.assertEqual(len(gate.faults({"9.1.2": refused(code)}, ["9.1.2"], {"9.1.2": {1009}})), 1)
        self.assertEqual(gate.faults({"9.1.2": refused(1009)}, ["9.1.2"], {"9.1.2": {1009}}), [])


class Selection(unittest.TestCase):
    def test_another_suite_is_refused(self):
        with self.assertRaises(ValueError):
            gate.select({"9.1.1": {}}, ["limits"])

    def test_section_1_does_not_select_section_10(self):
        table = {f"9.1.{n}": {} for n in range(54)} | {"10.1.1": {}, "1.1.1": {}}
        self.assertEqual(len(gate.select(table, ["limits"])), 54)


if __name__ == "__main__":
    unittest.main()
