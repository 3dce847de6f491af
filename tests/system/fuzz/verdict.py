"""Judge how a case ended: accepted rightly, or refused by one clear message."""

import re
from signal import Signals

from pool import Outcome

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u202a-\u202e]")
_TRACES = ("Traceback (most recent call last)", "panicked at", "Error executing job")
_LONGEST_MESSAGE = 3000


def verdict(outcome: Outcome) -> str:
    """Return what is wrong with how a case ended; empty: nothing."""
    facts, output = outcome.facts, outcome.output
    if facts["fuzzer_error"]:
        return f"the fuzzer itself: {facts['fuzzer_error'].splitlines()[-1]}"
    if outcome.killed:
        return f"takes {outcome.killed}"
    if outcome.signal:
        return f"dies of {Signals(outcome.signal).name}"
    if not facts.get("done"):
        return "ends the process"
    if facts["noticed"]:
        return "; ".join(facts["noticed"])[:500]
    if any(trace in output for trace in _TRACES):
        return f"traceback: {_last_line(output)}"
    if odd := _CONTROL.search(output):
        return f"prints the control character {odd[0]!r}"
    return _judge_answer(facts["exit"], output, facts["expected"])


def _judge_answer(exit_code: int, output: str, expected: str) -> str:
    if exit_code == 0:
        return "accepted, expected a refusal" if expected == "refused" else ""
    message = output.partition("error: ")[2]
    if not output.strip():
        return f"exit code {exit_code} without a word"
    if output.count("error: ") > 1 and output.count("\nerror: ") + output.startswith("error: ") > 1:
        return "more than one message"
    if len(message) > _LONGEST_MESSAGE:
        return f"a message of {len(message):,} characters"
    if expected == "accepted":
        return f"refused, expected it to be accepted: {message.strip()[:300]}"
    return ""


def _last_line(output: str) -> str:
    lines = [
        line for line in output.splitlines() if re.match(r"[\w.]+(Error|Exception|Warning)?:", line)
    ]
    return (lines or [""])[-1][:300]
