# Whether an SBOM is CycloneDX, and of the packages of a list. Arguments: SBOM LIST PROGRAM
import json, sys
sbom = json.load(open(sys.argv[1]))
wanted = set(open(sys.argv[2]).read().splitlines())
has = {(c["name"] + " " + c["version"]): c for c in sbom["components"]}
rust = {n for n, c in has.items() if c["purl"].startswith("pkg:cargo/")}
c = sorted(n.split()[0] for n in has.keys() - rust)
faults = []
if (sbom["bomFormat"], sbom["specVersion"]) != ("CycloneDX", "1.5"):
    faults.append("is no CycloneDX 1.5")
if sbom["metadata"]["component"]["name"] != sys.argv[3]:
    faults.append("is of something else")
if rust != wanted:
    faults.append(f"has too much: {sorted(rust - wanted)}; lacks: {sorted(wanted - rust)}")
if c != ["librdkafka", "openssl", "zlib", "zstd"]:
    faults.append(f"of C it has {c}")
if "serialNumber" in sbom:
    faults.append("has a random number")
for name in ["mongodb", "rdkafka", "rdkafka-sys", "rustls"]:
    if not any(n.startswith(name + " ") for n in rust):
        faults.append(f"lacks {name}")
for name, component in has.items():
    if not component.get("licenses"):
        faults.append(f"no licence of {name}")
refs = set(c["bom-ref"] for c in sbom["components"]) | {sbom["metadata"]["component"]["bom-ref"]}
for node in sbom["dependencies"]:
    if not {node["ref"], *node["dependsOn"]} <= refs:
        faults.append(f"{node['ref']} depends on what is not there")
if sum(r.startswith("pkg:generic/") for n in sbom["dependencies"] for r in n["dependsOn"]) < 4:
    faults.append("nothing depends on C's libraries")
for fault in faults:
    print("         the SBOM", fault)
print(f"         {len(rust)} crates, {', '.join(sorted(has.keys() - rust))}")
sys.exit(bool(faults))
