# Makes sure that commands exist. Arguments: COMMAND:PACKAGE…
# Installs the Debian packages of the missing ones when it may, otherwise says the one line to type.
set -eu
packages=
for pair; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages ${pair#*:}"
done
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$packages (please install them with this system's package manager)" >&2
    exit 69
fi
if [ "$(id -u)" != 0 ]; then
    echo "missing; please type: sudo apt-get update && sudo apt-get install -y$packages" >&2
    exit 69
fi
# Several builds may get here at once, and apt-get update does not wait for its lock.
exec 9>/run/lock/workflows-sink-apt
flock 9
echo "installing$packages" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >&2
apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $packages >/dev/null
