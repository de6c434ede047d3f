# What the trace `json` runs: make a document of 1,500 records, parse it, walk through what came out, write it again.
import json

text = "[" + ",".join('{"id":%d,"name":"name %d","tags":["a%d","b%d"],"at":[%d.5,%d]}' % (i, i, i % 97, i % 89, i, i * 3) for i in range(1500)) + "]"
records = json.loads(text)
total = sum(record["at"][1] + len(record["name"]) for record in records)
by_tag = {}
for record in records:
    by_tag.setdefault(record["tags"][0], []).append(record["id"])
print(total, len(by_tag), len(json.dumps(records)))
