"""A worker for tests of the server: it knows no recording, and does what questions tell it to."""

import json
import os
import sys
import time


def say(number, **members):
    print(json.dumps({"ask": number, **members}), flush=True)


def end(number, how="complete"):
    say(number, end=how, matched="1", exact=True, before=None, after=None, times={"total": 1.0})


def answer(message):
    number, question = message["ask"], message["question"]
    if question == "echo":
        say(number, rows=[message])
    elif question == "pid":
        say(number, rows=[{"pid": os.getpid()}])
    elif question == "die":
        os._exit(7)
    elif question == "half":
        sys.stdout.write('{"ask": 1, "rows": [')
        sys.stdout.flush()
        os._exit(0)
    elif question == "noise":
        # Nobody's answers, and what is no message.
        print("no JSON", flush=True)
        say(number + 1000, rows=[{"whose": "nobody's"}])
        print(json.dumps({"rows": []}), flush=True)
    elif question == "sources":
        names = ["/build/a.c", "/build/link.c", "/build/no.c", "/build/<b>.c"]
        say(number, rows=[{"file": name} for name in names])
    elif question == "rows":
        for at in range(message["arguments"]["count"]):
            say(number, rows=[{"row": at, "text": "<script>" * 10}])
    elif question == "wait":
        say(number, rows=[{"waiting": True}])
        # The next line is what ends it: a cancel.
        told = json.loads(sys.stdin.readline())
        assert told == {"cancel": number}, told
        return end(number, "cancelled")
    elif question == "deaf":
        time.sleep(3600)
    end(number)


for line in sys.stdin:
    message = json.loads(line)
    if "ask" in message:
        answer(message)
