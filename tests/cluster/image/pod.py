# Gives a bundle of runc what the manifest says of the container `sink`, with these variables and
# this command. Arguments: CONFIG.JSON RESOLV.CONF CA-CERTIFICATES [NAME=VALUE...] -- COMMAND...
# The network is this machine's. Authorities are mounted over the image's where the file is there.
import json, os, sys, yaml
path, resolv, authorities, *rest = sys.argv[1:]
at = rest.index("--")
variables, command = rest[:at], rest[at + 1:]
manifest = next(d for d in yaml.safe_load_all(open("deploy/kubernetes/base/deployment.yaml")) if d["kind"] == "Deployment")
pod = manifest["spec"]["template"]["spec"]
sink = next(c for c in pod["containers"] if c["name"] == "sink")
of_pod, of_sink = pod["securityContext"], sink["securityContext"]
assert of_pod["runAsNonRoot"] is True, of_pod
assert of_sink["capabilities"] == {"drop": ["ALL"]}, of_sink
bundle = json.load(open(path))
process = bundle["process"]
process["terminal"] = False
process["args"] = ["workflows-sink", *command]
process["env"] = [v for v in process["env"] if not v.startswith("DYFF_")] + variables
process["user"] = {"uid": of_pod["runAsUser"], "gid": of_pod["runAsGroup"], "additionalGids": [of_pod["fsGroup"]]}
process["noNewPrivileges"] = of_sink["allowPrivilegeEscalation"] is False
process["capabilities"] = {}
bundle["root"]["readonly"] = of_sink["readOnlyRootFilesystem"]
bundle["linux"]["namespaces"] = [n for n in bundle["linux"]["namespaces"] if n["type"] not in ("network", "user")]
for key in ("uidMappings", "gidMappings"):
    bundle["linux"].pop(key, None)
ours = {"/etc/resolv.conf": resolv, "/etc/hosts": "/etc/hosts"}
if os.path.exists(authorities):
    ours["/etc/ssl/certs/ca-certificates.crt"] = authorities
bundle["mounts"] = [m for m in bundle["mounts"]
                    if m["destination"] not in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")]
for to, source in ours.items():
    bundle["mounts"].append({"destination": to, "type": "bind", "source": source, "options": ["rbind", "ro"]})
json.dump(bundle, open(path, "w"))
