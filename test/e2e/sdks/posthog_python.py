"""Sends events with the published posthog for Python, as an application would, and prints what failed.

Arguments: host, token, events, users.
"""

import json
import sys
import time

import posthog

host, token, events, users = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
failures = []
client = posthog.Posthog(
    token, host=host, flush_interval=0.2, gzip=True, on_error=lambda error, batch: failures.append(str(error))
)
for user in range(users):
    distinct_id = f"python-user-{user}"
    client.capture("python before identify", distinct_id=f"python-anon-{user}")
    client.capture(
        "$identify",
        distinct_id=distinct_id,
        properties={"$anon_distinct_id": f"python-anon-{user}", "$set": {"plan": "pro", "index": user}},
    )
    client.group_identify("company", f"company-{user % 5}", {"size": user % 5}, distinct_id=distinct_id)
for index in range(events):
    client.capture(
        "python event",
        distinct_id=f"python-user-{index % users}",
        properties={"index": index, "sent_ms": int(time.time() * 1000)},
        groups={"company": f"company-{index % 5}"},
    )
    if index % 100 == 99:
        time.sleep(0.02)
client.shutdown()
print(json.dumps({"failures": failures}))
